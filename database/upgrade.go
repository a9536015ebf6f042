package database

import (
	"embed"

	"go.mau.fi/util/dbutil"
)

// versionTable holds our schema version, apart from the framework's.
const versionTable = "postern_version"

//go:embed upgrades/*.sql
var upgradeFiles embed.FS

// upgradeTable is built from upgrades/NN-topic.sql. Every file starts with a line
// `-- vN -> vM: what it does` and runs in one transaction, on both dialects.
var upgradeTable = dbutil.BuildUpgradeTable().WithFSPath(upgradeFiles, "upgrades").Finish()
