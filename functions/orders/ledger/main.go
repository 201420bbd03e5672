// Keeps the books: every invoice is an entry on two accounts, which always balance.
//
// It takes invoices in batches, one write of each account for a batch. A batch is one transaction, so what is in the books
// and what was returned as posted never differ, and no invoice is posted twice: the entry of an invoice is looked for first,
// should its producer have sent it under another id.
package main

import (
	"context"
	"log/slog"

	"dunlin.dev/go"
)

// Invoice is the data of invoice.issued. Amounts are in cents.
type Invoice struct {
	Invoice string `json:"invoice"`
	Order   string `json:"order"`
	Amount  int64  `json:"amount"`
}

// Entry is the data of ledger.posted, and what is kept for each invoice.
type Entry struct {
	Invoice string `json:"invoice"`
	Order   string `json:"order"`
	Debit   string `json:"debit"`
	Credit  string `json:"credit"`
	Amount  int64  `json:"amount"`
}

const (
	receivables = "receivables"
	revenue     = "revenue"
)

func main() { dunlin.HandleBatch(post) }

func post(ctx context.Context, invoices []dunlin.Event[Invoice]) ([]dunlin.Outcome, error) {
	books := dunlin.State()
	keys := make([]string, len(invoices))
	for i, invoice := range invoices {
		keys[i] = entryKey(invoice.Data.Invoice)
	}
	entries, err := dunlin.GetMany[Entry](books, keys...)
	if err != nil {
		return nil, err
	}

	outcomes := make([]dunlin.Outcome, len(invoices))
	posted := map[string]Entry{}
	var sum int64
	for i, event := range invoices {
		invoice := event.Data
		if invoice.Invoice == "" || invoice.Amount <= 0 {
			outcomes[i].Err = dunlin.Rejectf("invoice %q of %d cents can't be posted", invoice.Invoice, invoice.Amount)
			continue
		}
		if known, found := entries[keys[i]]; found {
			slog.Warn("posted before", "invoice", known.Invoice, "amount", known.Amount)
			continue
		}
		entry := Entry{invoice.Invoice, invoice.Order, receivables, revenue, invoice.Amount}
		entries[keys[i]], posted[keys[i]] = entry, entry
		sum += invoice.Amount
		outcomes[i].Events = dunlin.Events{
			dunlin.Event[Entry]{Type: "ledger.posted", Subject: invoice.Invoice, Key: invoice.Order, Data: entry},
		}
	}
	if len(posted) == 0 {
		return outcomes, nil
	}
	if err := dunlin.SetMany(books, posted); err != nil {
		return nil, err
	}
	for account, amount := range map[string]int64{receivables: sum, revenue: -sum} {
		if _, err := books.Increment(account, amount); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

func entryKey(invoice string) string { return "entry:" + invoice }
