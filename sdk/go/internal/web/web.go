// Package web is between the handler of a function that answers requests and whoever hands it one: the platform, or a test.
package web

import "net/http"

// Handler is the function's, once it has said so.
var Handler http.Handler
