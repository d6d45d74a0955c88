package main

import (
	"context"
	"encoding/json"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

// handler answers orders with receipts.
func handler(flow *birth.Flow) func(context.Context, runtimeapi.Invocation) ([]byte, error) {
	return func(ctx context.Context, inv runtimeapi.Invocation) ([]byte, error) {
		receipt, err := answer(ctx, flow, inv.Event)
		if err != nil {
			return nil, &runtimeapi.Failure{Class: birth.Class(err), Message: err.Error()}
		}
		return json.Marshal(birth.Answer{Schema: birth.AnswerSchema, Receipt: receipt})
	}
}

func answer(ctx context.Context, flow *birth.Flow, event []byte) ([]byte, error) {
	r, err := birth.ParseRequest(event)
	if err != nil {
		return nil, err
	}
	var lines []birth.Line
	for b, err := range flow.Run(ctx, r) {
		if err != nil {
			return nil, err
		}
		lines = append(lines, b.Line())
	}
	return flow.Receipt(ctx, r, lines)
}
