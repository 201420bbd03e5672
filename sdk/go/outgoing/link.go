//go:build wasip1

package outgoing

import (
	"net/http"
	_ "unsafe" // for go:linkname
)

// Where the program is built with overlay/roundtrip.go.txt, as `dunlin build` does it, every http.Transport sends its requests
// through this, and the one of net/http isn't linked. Where it is not, http.DefaultTransport alone does.
//
//go:linkname netHTTPRoundTrip net/http.dunlinRoundTrip
var netHTTPRoundTrip func(*http.Request) (*http.Response, error)

func init() {
	netHTTPRoundTrip = Transport{}.RoundTrip
	http.DefaultTransport = Transport{}
}
