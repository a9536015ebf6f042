package killpoint

// The points of an attachment that goes out, in this order: from the homeserver through the spool folder into the media store, and
// into the message that refers to it. What goes untouched passes by the spool.
const (
	// OutFileOpened: the homeserver has begun to answer, and nothing of the file is here.
	OutFileOpened = "O4.file-opened"
	// OutFileSpooled: the file is in the spool folder, as it came.
	OutFileSpooled = "O4.file-spooled"
	// OutFileConverted: it was made showable, still in the spool folder.
	OutFileConverted = "O4.file-converted"
	// OutFileWritten: the ciphertext was written under a temporary name, and is not on disk for certain.
	OutFileWritten = "O4.file-written"
	// OutFileSynced: it is on disk under its temporary name.
	OutFileSynced = "O4.file-synced"
	// OutFileNamed: it has its final name, and the folder is not on disk for certain.
	OutFileNamed = "O4.file-named"
	// OutFileStored: it is in the store, and nothing refers to it.
	OutFileStored = "O4.file-stored"
	// OutPreparing: the message and the index row of its file were written and not committed.
	OutPreparing = "O4.preparing"
	// OutPrepared: they are on disk.
	OutPrepared = "O4.prepared"
)

// The points of an attachment that comes in, in this order, before and after those of its message's way to Matrix.
const (
	// InFileWanted: it is to be fetched, and nothing of it is here.
	InFileWanted = "I5.file-wanted"
	// InFileFetched: the ciphertext is in the spool folder.
	InFileFetched = "I5.file-fetched"
	// InFileOpened: it was checked and decrypted, in the spool folder.
	InFileOpened = "I5.file-opened"
	// InFileUploaded: the homeserver has it, and nobody here has noted that.
	InFileUploaded = "I5.file-uploaded"
	// InFileNoted: what is to be shown is on disk, and not in the room.
	InFileNoted = "I5.file-noted"
	// InFileAsked: somebody has asked for it again, and that is on disk.
	InFileAsked = "I5.file-asked"
	// InFileReplacing: it has come later than its message, and is about to take its place in the room.
	InFileReplacing = "I5.file-replacing"
	// InFileReplaced: it has taken it, and that is not on disk.
	InFileReplaced = "I5.file-replaced"
)

// Files lists the points of attachments, those that go out before those that come in. They are no part of All: the seeds of older
// campaigns choose from that.
var Files = []string{
	OutFileOpened, OutFileSpooled, OutFileConverted, OutFileWritten, OutFileSynced, OutFileNamed, OutFileStored, OutPreparing, OutPrepared,
	InFileWanted, InFileFetched, InFileOpened, InFileUploaded, InFileNoted, InFileAsked, InFileReplacing, InFileReplaced,
}
