// Package payload is MessagePack for payloads, the convention of all Consort SDKs.
//
// Values are nil, bool, integers, floats, string, []byte, []any, map[string]any and [Fields]. What
// arrives comes from other devices: [Decode] limits the depth and refuses what follows the value.
package payload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// DepthMax is how deep values may nest.
const DepthMax = 16

// Field is a member of Fields.
type Field struct {
	Key   string
	Value any
}

// Fields is a map that keeps its order; a map[string]any is written in the order of its keys.
type Fields []Field

// The errors of Decode and Encode.
var (
	ErrTooDeep   = fmt.Errorf("the payload nests deeper than %d levels", DepthMax)
	ErrTruncated = errors.New("the payload ends within a value")
	ErrTrailing  = errors.New("bytes follow the value in the payload")
	ErrMalformed = errors.New("the payload is no MessagePack")
	ErrNoForm    = errors.New("the value has no MessagePack form")
)

// Encode gives a value as MessagePack.
func Encode(value any) ([]byte, error) { return write(nil, value, DepthMax) }

// Must gives a value as MessagePack and panics if it has no form, which is the author's mistake.
func Must(value any) []byte {
	payload, err := Encode(value)
	if err != nil {
		panic(err)
	}
	return payload
}

func write(to []byte, value any, depth int) ([]byte, error) {
	switch value := value.(type) {
	case nil:
		return append(to, 0xc0), nil
	case bool:
		if value {
			return append(to, 0xc3), nil
		}
		return append(to, 0xc2), nil
	case int:
		return writeInt(to, int64(value)), nil
	case int32:
		return writeInt(to, int64(value)), nil
	case int64:
		return writeInt(to, value), nil
	case uint32:
		return writeUint(to, uint64(value)), nil
	case uint64:
		return writeUint(to, value), nil
	case float32:
		return write(to, float64(value), depth)
	case float64:
		return binary.BigEndian.AppendUint64(append(to, 0xcb), math.Float64bits(value)), nil
	case string:
		to = writeHead(to, len(value), 0xa0, 32, [3]byte{0xd9, 0xda, 0xdb})
		return append(to, value...), nil
	case []byte:
		to = writeHead(to, len(value), 0, 0, [3]byte{0xc4, 0xc5, 0xc6})
		return append(to, value...), nil
	}
	return writeContainer(to, value, depth)
}

func writeContainer(to []byte, value any, depth int) ([]byte, error) {
	if depth == 0 {
		return nil, ErrTooDeep
	}
	var err error
	switch value := value.(type) {
	case []any:
		to = writeHead(to, len(value), 0x90, 16, [3]byte{0, 0xdc, 0xdd})
		for _, item := range value {
			if to, err = write(to, item, depth-1); err != nil {
				return nil, err
			}
		}
		return to, nil
	case map[string]any:
		fields := make(Fields, 0, len(value))
		for key, item := range value {
			fields = append(fields, Field{key, item})
		}
		slices.SortFunc(fields, func(a, b Field) int {
			if a.Key < b.Key {
				return -1
			}
			return 1
		})
		return writeContainer(to, fields, depth)
	case Fields:
		to = writeHead(to, len(value), 0x80, 16, [3]byte{0, 0xde, 0xdf})
		for _, field := range value {
			to, _ = write(to, field.Key, depth)
			if to, err = write(to, field.Value, depth-1); err != nil {
				return nil, err
			}
		}
		return to, nil
	}
	return nil, fmt.Errorf("%w: %T", ErrNoForm, value)
}

func writeUint(to []byte, value uint64) []byte {
	switch {
	case value < 0x80:
		return append(to, byte(value))
	case value <= math.MaxUint8:
		return append(to, 0xcc, byte(value))
	case value <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(to, 0xcd), uint16(value))
	case value <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(to, 0xce), uint32(value))
	}
	return binary.BigEndian.AppendUint64(append(to, 0xcf), value)
}

func writeInt(to []byte, value int64) []byte {
	switch {
	case value >= 0:
		return writeUint(to, uint64(value))
	case value >= -32:
		return append(to, byte(value))
	case value >= math.MinInt8:
		return append(to, 0xd0, byte(value))
	case value >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(to, 0xd1), uint16(value))
	case value >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(to, 0xd2), uint32(value))
	}
	return binary.BigEndian.AppendUint64(append(to, 0xd3), uint64(value))
}

// writeHead writes a length: within the head below short, else behind one of three heads, of which
// arrays and maps lack the first.
func writeHead(to []byte, length int, head byte, short int, long [3]byte) []byte {
	switch {
	case length < short:
		return append(to, head|byte(length))
	case length <= math.MaxUint8 && long[0] != 0:
		return append(to, long[0], byte(length))
	case length <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(to, long[1]), uint16(length))
	}
	return binary.BigEndian.AppendUint32(append(to, long[2]), uint32(length))
}

// Decode gives the one value in a payload: nil, bool, int64, uint64 beyond that, float64, string,
// []byte, []any or map[string]any.
func Decode(payload []byte) (any, error) {
	reader := reader{payload}
	value, err := reader.value(DepthMax)
	if err != nil {
		return nil, err
	}
	if len(reader.rest) > 0 {
		return nil, ErrTrailing
	}
	return value, nil
}

type reader struct{ rest []byte }

func (r *reader) take(count uint64) ([]byte, error) {
	if count > uint64(len(r.rest)) {
		return nil, ErrTruncated
	}
	taken := r.rest[:count]
	r.rest = r.rest[count:]
	return taken, nil
}

// number reads an unsigned number of 1, 2, 4 or 8 bytes.
func (r *reader) number(size uint64) (uint64, error) {
	taken, err := r.take(size)
	var value uint64
	for _, digit := range taken {
		value = value<<8 | uint64(digit)
	}
	return value, err
}

func (r *reader) text(length uint64) (any, error) {
	taken, err := r.take(length)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(taken) {
		return nil, ErrMalformed
	}
	return string(taken), nil
}

func (r *reader) value(depth int) (any, error) {
	first, err := r.number(1)
	if err != nil {
		return nil, err
	}
	head := byte(first)
	switch {
	case head < 0x80:
		return int64(head), nil
	case head < 0x90:
		return r.mapping(first&0x0f, depth)
	case head < 0xa0:
		return r.array(first&0x0f, depth)
	case head < 0xc0:
		return r.text(first & 0x1f)
	case head >= 0xe0:
		return int64(int8(head)), nil
	}
	return r.longForm(head, depth)
}

// longForm reads a value whose head is followed by a number of the size that the head names.
func (r *reader) longForm(head byte, depth int) (any, error) {
	switch head {
	case 0xc0:
		return nil, nil
	case 0xc2, 0xc3:
		return head == 0xc3, nil
	}
	size, known := sizes[head]
	if !known {
		return nil, ErrMalformed
	}
	number, err := r.number(uint64(size))
	if err != nil {
		return nil, err
	}
	switch {
	case head <= 0xc6:
		taken, err := r.take(number)
		return slices.Clone(taken), err
	case head == 0xca:
		return float64(math.Float32frombits(uint32(number))), nil
	case head == 0xcb:
		return math.Float64frombits(number), nil
	case head <= 0xcf && number > math.MaxInt64:
		return number, nil
	case head <= 0xcf:
		return int64(number), nil
	case head <= 0xd3:
		unused := 64 - 8*size
		return int64(number<<unused) >> unused, nil
	case head <= 0xdb:
		return r.text(number)
	case head <= 0xdd:
		return r.array(number, depth)
	}
	return r.mapping(number, depth)
}

// sizes of the number behind a head.
var sizes = map[byte]int{
	0xc4: 1, 0xc5: 2, 0xc6: 4, 0xca: 4, 0xcb: 8,
	0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8,
	0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4,
}

func (r *reader) array(count uint64, depth int) (any, error) {
	if depth == 0 {
		return nil, ErrTooDeep
	}
	items := []any{}
	for range count {
		item, err := r.value(depth - 1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func (r *reader) mapping(count uint64, depth int) (any, error) {
	if depth == 0 {
		return nil, ErrTooDeep
	}
	values := map[string]any{}
	for range count {
		key, err := r.value(depth - 1)
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, ErrMalformed
		}
		if values[name], err = r.value(depth - 1); err != nil {
			return nil, err
		}
	}
	return values, nil
}
