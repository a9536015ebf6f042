package admin

import "context"

type actorKey struct{}

// Who has something done, where it is neither an administrator in Matrix nor a token.
const (
	ActorOperator = "operator" // over the private listener, with the secret
	ActorOffline  = "offline"  // by a command where no bridge runs
)

// WithActor says who has what follows done, for the audit log: one of the words above, or "admin" and the Matrix ID of an administrator.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// Actor is who has it done, ActorOffline if nobody has said.
func Actor(ctx context.Context) string {
	if actor, ok := ctx.Value(actorKey{}).(string); ok {
		return actor
	}
	return ActorOffline
}
