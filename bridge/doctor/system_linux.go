package doctor

import "syscall"

// filesystems by the number that Linux gives them; only those that matter.
var filesystems = map[int64]string{
	0x6969: "nfs", 0xff534d42: "cifs", 0xfe534d42: "smb2", 0x01021997: "9p", 0x65735546: "fuse", 0x5346414f: "afs", 0x00c36400: "ceph",
	0x01021994: "tmpfs", 0x858458f6: "ramfs", 0x794c7630: "overlayfs",
}

// filesystem names the kind of file system a file lies on, "" if it is none of those that matter.
func filesystem(path string) string {
	var s syscall.Statfs_t
	if syscall.Statfs(path, &s) != nil {
		return ""
	}
	return filesystems[int64(uint32(s.Type))]
}
