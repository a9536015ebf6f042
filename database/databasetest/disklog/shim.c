//go:build linux && cgo

#include "shim.h"
#include "_cgo_export.h"
#include <string.h>

/* In the SQLite that the driver brings; the final link finds them. */
extern disklog_vfs *sqlite3_vfs_find(const char *);
extern int sqlite3_vfs_register(disklog_vfs *, int);

enum {
	result_ok = 0,
	open_main_db = 0x100,
	open_main_journal = 0x800,
	open_wal = 0x80000,
};

/* One open file: the head that SQLite sees, what the log calls it, and the real file behind. */
typedef struct shim_file {
	disklog_file head;
	disklog_int64 number;
} shim_file;

static disklog_vfs shim;
static disklog_vfs *base;

static disklog_file *real(disklog_file *f) { return (disklog_file *)((shim_file *)f + 1); }
static disklog_int64 number(disklog_file *f) { return ((shim_file *)f)->number; }

static int shim_close(disklog_file *f) { return real(f)->methods->close(real(f)); }
static int shim_read(disklog_file *f, void *to, int n, disklog_int64 at) { return real(f)->methods->read(real(f), to, n, at); }

static int shim_write(disklog_file *f, const void *from, int n, disklog_int64 at) {
	int rc = real(f)->methods->write(real(f), from, n, at);
	disklogWrite(number(f), (void *)from, n, at, rc);
	return rc;
}

static int shim_truncate(disklog_file *f, disklog_int64 size) {
	int rc = real(f)->methods->truncate(real(f), size);
	disklogTruncate(number(f), size, rc);
	return rc;
}

static int shim_sync(disklog_file *f, int flags) {
	disklog_int64 begun = disklogSyncBegin(number(f));
	int rc = real(f)->methods->sync(real(f), flags);
	disklogSyncEnd(number(f), begun, rc);
	return rc;
}

static int shim_size(disklog_file *f, disklog_int64 *n) { return real(f)->methods->size(real(f), n); }
static int shim_lock(disklog_file *f, int l) { return real(f)->methods->lock(real(f), l); }
static int shim_unlock(disklog_file *f, int l) { return real(f)->methods->unlock(real(f), l); }
static int shim_check_reserved(disklog_file *f, int *out) { return real(f)->methods->check_reserved(real(f), out); }
static int shim_control(disklog_file *f, int op, void *arg) { return real(f)->methods->control(real(f), op, arg); }
static int shim_sector_size(disklog_file *f) { return real(f)->methods->sector_size(real(f)); }
static int shim_characteristics(disklog_file *f) { return real(f)->methods->characteristics(real(f)); }
static int shim_shm_map(disklog_file *f, int page, int size, int extend, void volatile **out) {
	return real(f)->methods->shm_map(real(f), page, size, extend, out);
}
static int shim_shm_lock(disklog_file *f, int at, int n, int flags) { return real(f)->methods->shm_lock(real(f), at, n, flags); }
static void shim_shm_barrier(disklog_file *f) { real(f)->methods->shm_barrier(real(f)); }
static int shim_shm_unmap(disklog_file *f, int remove) { return real(f)->methods->shm_unmap(real(f), remove); }

/* Version 2: without the calls that map the file, so that every byte goes through write. */
static const disklog_methods methods = {
	2, shim_close, shim_read, shim_write, shim_truncate, shim_sync, shim_size, shim_lock, shim_unlock,
	shim_check_reserved, shim_control, shim_sector_size, shim_characteristics,
	shim_shm_map, shim_shm_lock, shim_shm_barrier, shim_shm_unmap, 0, 0,
};

static int shim_open(disklog_vfs *v, const char *name, disklog_file *f, int flags, int *out) {
	(void)v;
	if (name == 0 || !(flags & (open_main_db | open_main_journal | open_wal)))
		return base->open(base, name, f, flags, out); /* a temporary file: it matters to nobody after a cut */
	shim_file *s = (shim_file *)f;
	memset(s, 0, sizeof(*s));
	int rc = base->open(base, name, real(f), flags, out);
	if (rc == result_ok) {
		s->number = disklogOpen((char *)name);
		s->head.methods = &methods;
	}
	return rc;
}

static int shim_remove(disklog_vfs *v, const char *name, int sync_folder) {
	(void)v;
	int rc = base->remove(base, name, sync_folder);
	disklogRemove((char *)name, sync_folder, rc);
	return rc;
}

int disklog_register(void) {
	base = sqlite3_vfs_find(0);
	if (base == 0 || base->version < 3)
		return 1;
	shim = *base;
	shim.version = 3;
	shim.next = 0;
	shim.name = "postern_disklog";
	shim.file_size = (int)sizeof(shim_file) + base->file_size;
	shim.open = shim_open;
	shim.remove = shim_remove;
	return sqlite3_vfs_register(&shim, 0);
}
