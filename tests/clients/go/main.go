// Publishes with the CloudEvents SDK for Go, and reads back what it published. See ../README.md.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

func order(id string) event.Event {
	order := cloudevents.NewEvent()
	order.SetID(id)
	order.SetSource("/clients/go")
	order.SetType("order.created")
	order.SetSubject("Grüße, €")
	order.SetExtension("partitionkey", "k")
	check(order.SetData(cloudevents.ApplicationJSON, map[string]any{"text": "Grüße, €", "total": 5}))
	return order
}

func main() {
	address := os.Args[1]
	client, err := cloudevents.NewClientHTTP(cloudevents.WithTarget(address))
	check(err)
	raw := cloudevents.NewEvent()
	raw.SetID("bytes")
	raw.SetSource("/clients/go")
	raw.SetType("image.taken")
	check(raw.SetData("image/png", []byte{0, 1, 255}))
	sent := []event.Event{order("binary"), raw, order("structured"), order("first"), order("second")}

	ctx := context.Background()
	for _, one := range sent[:2] {
		taken(client.Send(cloudevents.WithEncodingBinary(ctx), one))
	}
	taken(client.Send(cloudevents.WithEncodingStructured(ctx), sent[2]))
	request, err := cehttp.NewHTTPRequestFromEvents(ctx, address, sent[3:])
	check(err)
	response, err := http.DefaultClient.Do(request)
	check(err)
	if response.StatusCode != http.StatusAccepted {
		body, _ := io.ReadAll(response.Body)
		panic(fmt.Sprintf("the batch: %s %s", response.Status, body))
	}

	request, err = http.NewRequest(http.MethodGet, address, nil)
	check(err)
	request.Header.Set("accept", event.ApplicationCloudEventsBatchJSON)
	response, err = http.DefaultClient.Do(request)
	check(err)
	read, err := cehttp.NewEventsFromHTTPResponse(response)
	check(err)
	if len(read) != len(sent) {
		panic(fmt.Sprintf("%d of %d events came back", len(read), len(sent)))
	}
	for i, one := range sent {
		there := read[i]
		same := there.ID() == one.ID() && there.Source() == one.Source() && there.Type() == one.Type() &&
			there.Subject() == one.Subject() && there.DataContentType() == one.DataContentType() &&
			there.Extensions()["partitionkey"] == one.Extensions()["partitionkey"] && bytes.Equal(there.Data(), one.Data())
		if !same {
			panic(fmt.Sprintf("sent:\n%s\nread:\n%s", one, there))
		}
	}
}

func taken(result cloudevents.Result) {
	var answer *cehttp.Result
	if !cloudevents.ResultAs(result, &answer) || answer.StatusCode != http.StatusAccepted {
		panic(result)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
