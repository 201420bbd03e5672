package main

import (
	"io"
	"net/http/httptest"
	"testing"

	"dunlin.dev/go/dunlintest"
)

func TestEverybodyIsGreeted(t *testing.T) {
	platform := dunlintest.New(t)
	main()
	response := platform.Respond(httptest.NewRequest("GET", "/{{name}}/ada", nil))
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != 200 || string(body) != "{\"greeting\":\"Hello, ada!\"}\n" {
		t.Error(response.Status, string(body))
	}
}
