package dunlin_test

import (
	"context"
	"log/slog"
	"testing"

	"dunlin.dev/go"
	"dunlin.dev/go/dunlintest"
)

// What the README says there is, together.
func all(ctx context.Context, order dunlin.Event[int64]) error {
	limit, err := dunlin.ConfigOr("CHARGE_LIMIT", 5000)
	if err != nil {
		return err
	}
	count, err := dunlin.State().Increment("orders", 1)
	if err != nil {
		return err
	}
	cart, found, err := dunlin.Get[[]string](dunlin.SharedState("carts"), "ada")
	if err != nil || !found {
		return err
	}
	largest, err := dunlin.Update(dunlin.State(), "largest", func(largest int64) (int64, error) {
		return max(largest, order.Data), nil
	})
	if err != nil {
		return err
	}
	slog.Info("counted", "orders", count, "limit", limit, "largest", largest)
	return dunlin.Publish("mail", dunlin.NewEvent("mail.wanted", cart))
}

func TestTheReadme(t *testing.T) {
	p := dunlintest.New(t)
	if err := dunlin.SharedState("carts").Set("ada", []string{"tea"}); err != nil {
		t.Fatal(err)
	}
	if err := all(t.Context(), dunlintest.Event[int64]("order.created", 1290)); err != nil {
		t.Fatal(err)
	}
	equal(t, p.State(), map[string]any{"orders": 1.0, "largest": 1290.0})
	equal(t, dunlintest.Data[[]string](t, p.Published("mail")[0]), []string{"tea"})
	equal(t, p.Logged()[0].Fields["limit"], "5000")
}
