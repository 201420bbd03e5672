// Answers GET /{{name}}/{who}.
package main

import (
	"encoding/json"
	"net/http"

	"dunlin.dev/go/dunlinhttp"
)

func main() {
	mux := http.NewServeMux()
	mux.Handle("GET /{{name}}/{who}", dunlinhttp.HandlerFunc(greet))
	dunlinhttp.Serve(mux)
}

type greeting struct {
	Greeting string `json:"greeting"`
}

func greet(w http.ResponseWriter, r *http.Request) error {
	who := r.PathValue("who")
	if len(who) > 100 {
		return dunlinhttp.NewProblem(http.StatusBadRequest, "that is a long name")
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(greeting{"Hello, " + who + "!"})
}
