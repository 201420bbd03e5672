// Package outgoing makes [net/http] work in a function: import it, and [http.Get], [http.DefaultClient] and every client
// without a transport of its own reach the servers the manifest names in allow.http.
//
//	import _ "dunlin.dev/go/outgoing"
//
// Requests of several goroutines are under way at the same time. Deadlines of contexts and [http.Client]'s Timeout hold. In a
// native build, such as a test, net/http is left as it is.
package outgoing

// An Error is why a request got no answer, in the platform's words: connection-refused, HTTP-request-denied.
type Error struct {
	Code   string
	Detail string
}

func (e *Error) Error() string {
	text := e.Code
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	switch e.Code {
	case "HTTP-request-denied":
		text += " (does the manifest name the server in `allow.http`?)"
	case "destination-IP-prohibited":
		text += " (it is a private address: the manifest's `allow.networks` may name its network)"
	}
	return text
}
