// Package wit is what the generated bindings stand on: their types, and memory for what the host
// passes in.
package wit

// Unit is the value of a result that has none.
type Unit struct{}

// Tuple2 holds two values.
type Tuple2[A any, B any] struct {
	F0 A
	F1 B
}

// The tags of an Option.
const (
	OptionNone uint8 = 0
	OptionSome uint8 = 1
)

// Option is a value or none.
type Option[T any] struct {
	some  bool
	value T
}

// None is no value.
func None[T any]() Option[T] { return Option[T]{} }

// Some is a value.
func Some[T any](value T) Option[T] { return Option[T]{true, value} }

// Tag says which it is.
func (o Option[T]) Tag() uint8 {
	if o.some {
		return OptionSome
	}
	return OptionNone
}

// Some is the value. It panics if there is none.
func (o Option[T]) Some() T {
	if !o.some {
		panic("there is no value")
	}
	return o.value
}

// The tags of a Result.
const (
	ResultOk  uint8 = 0
	ResultErr uint8 = 1
)

// Result is what came of a call: a value or an error.
type Result[T any, E any] struct {
	tag uint8
	ok  T
	err E
}

// Ok is a success.
func Ok[T any, E any](value T) Result[T, E] { return Result[T, E]{tag: ResultOk, ok: value} }

// Err is a failure.
func Err[T any, E any](value E) Result[T, E] { return Result[T, E]{tag: ResultErr, err: value} }

// Tag says which it is.
func (r Result[T, E]) Tag() uint8 { return r.tag }

// Ok is the value. It panics if there was an error.
func (r Result[T, E]) Ok() T {
	if r.tag != ResultOk {
		panic("there was an error")
	}
	return r.ok
}

// Err is the error. It panics if there was none.
func (r Result[T, E]) Err() E {
	if r.tag != ResultErr {
		panic("there was no error")
	}
	return r.err
}
