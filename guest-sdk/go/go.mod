module github.com/consort-host/consort/guest-sdk/go

go 1.25
