package killpoint

// The points of moving a user to another instance, in this order.
const (
	// MoveEntered: the other instance's bot is in the user's rooms, and nothing else has changed.
	MoveEntered = "V1.entered"
	// MoveCopying: everything was written at the other instance, and that is not committed.
	MoveCopying = "V2.copying"
	// MoveCopied: it is committed: the user belongs to the other instance.
	MoveCopied = "V2.copied"
	// MoveLeft: the ghosts in the rooms are the other instance's.
	MoveLeft = "V3.left"
	// MoveForgetting: what the old instance had was deleted, and that is not committed.
	MoveForgetting = "V4.forgetting"
	// MoveForgot: it is committed.
	MoveForgot = "V4.forgot"
)

// Moving lists these points, to which no message comes.
var Moving = []string{MoveEntered, MoveCopying, MoveCopied, MoveLeft, MoveForgetting, MoveForgot}
