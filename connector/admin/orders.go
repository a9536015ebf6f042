package admin

import (
	"context"
	"errors"
	"net/http"
)

// ErrNeedsBridge is what a Service without a running bridge says to an order that needs one.
var ErrNeedsBridge = errors.New("admin: this needs a running bridge")

// serveOrders adds the one request by which all Actions are ordered.
func (h *Handler) serveOrders() { h.mux.HandleFunc("POST "+Prefix+"do", h.order) }

func (h *Handler) order(w http.ResponseWriter, r *http.Request) {
	var order Order
	if !h.read(w, r, "order", &order, func() bool { return true }, "{\"action\": \"…\", \"words\": [\"…\"]}") {
		return
	}
	var wrong *WrongOrder
	if errors.As(order.check(), &wrong) {
		h.done(w, "order", http.StatusBadRequest, 0, orderRefused{Error: "that is no order: " + wrong.Kind, Wrong: wrong.Kind})
		return
	}
	answer, err := h.service.Do(r.Context(), order)
	switch {
	case errors.As(err, &wrong):
		h.done(w, order.Action, http.StatusBadRequest, 0, orderRefused{Error: "that is no order: " + wrong.Kind, Wrong: wrong.Kind})
	case err != nil:
		h.failed(w, order.Action, err)
	default:
		h.done(w, order.Action, http.StatusOK, len(answer.Results)+len(answer.Users), answer)
	}
}

// orderRefused is the answer to an order that is none.
type orderRefused struct {
	Error string `json:"error"`
	Wrong string `json:"wrong"`
}

// Do implements Service.
func (c *Client) Do(ctx context.Context, order Order) (*Answer, error) {
	if err := order.check(); err != nil {
		return nil, err
	}
	var into Answer
	if err := c.do(ctx, http.MethodPost, "do", order, &into); err != nil {
		return nil, err
	}
	if !into.valid() {
		return nil, ErrNotBridge
	}
	return &into, nil
}
