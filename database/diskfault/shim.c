//go:build linux && cgo

#include "shim.h"
#include "_cgo_export.h"
#include <string.h>

/* In the SQLite that the driver brings; the final link finds them. */
extern df_vfs *sqlite3_vfs_find(const char *);
extern int sqlite3_vfs_register(df_vfs *, int);

enum {
	open_main_db = 0x100,
	open_main_journal = 0x800,
	open_wal = 0x80000,
	op_write = 0,
	op_sync = 1,
	op_read = 2,
};

/* One open file: the head that SQLite sees, its folder's number, and the real file behind. */
typedef struct shim_file {
	df_file head;
	df_int64 folder;
} shim_file;

static df_vfs shim;
static df_vfs *base;

static df_file *real(df_file *f) { return (df_file *)((shim_file *)f + 1); }
static int fault(df_file *f, int op) { return diskfaultAsk(((shim_file *)f)->folder, op); }

static int shim_close(df_file *f) { return real(f)->methods->close(real(f)); }

static int shim_read(df_file *f, void *to, int n, df_int64 at) {
	int rc = fault(f, op_read);
	return rc ? rc : real(f)->methods->read(real(f), to, n, at);
}

/* Half of it is there when a write fails, as on a disk that fills up. */
static int shim_write(df_file *f, const void *from, int n, df_int64 at) {
	int rc = fault(f, op_write);
	if (rc == 0)
		return real(f)->methods->write(real(f), from, n, at);
	if (n > 1)
		(void)real(f)->methods->write(real(f), from, n / 2, at);
	return rc;
}

static int shim_truncate(df_file *f, df_int64 size) { return real(f)->methods->truncate(real(f), size); }

static int shim_sync(df_file *f, int flags) {
	int rc = fault(f, op_sync);
	return rc ? rc : real(f)->methods->sync(real(f), flags);
}

static int shim_size(df_file *f, df_int64 *n) { return real(f)->methods->size(real(f), n); }
static int shim_lock(df_file *f, int l) { return real(f)->methods->lock(real(f), l); }
static int shim_unlock(df_file *f, int l) { return real(f)->methods->unlock(real(f), l); }
static int shim_check_reserved(df_file *f, int *out) { return real(f)->methods->check_reserved(real(f), out); }
static int shim_control(df_file *f, int op, void *arg) { return real(f)->methods->control(real(f), op, arg); }
static int shim_sector_size(df_file *f) { return real(f)->methods->sector_size(real(f)); }
static int shim_characteristics(df_file *f) { return real(f)->methods->characteristics(real(f)); }
static int shim_shm_map(df_file *f, int page, int size, int extend, void volatile **out) {
	return real(f)->methods->shm_map(real(f), page, size, extend, out);
}
static int shim_shm_lock(df_file *f, int at, int n, int flags) { return real(f)->methods->shm_lock(real(f), at, n, flags); }
static void shim_shm_barrier(df_file *f) { real(f)->methods->shm_barrier(real(f)); }
static int shim_shm_unmap(df_file *f, int remove) { return real(f)->methods->shm_unmap(real(f), remove); }

/* Version 2: without the calls that map the file, so that every byte goes through read and write. */
static const df_methods methods = {
	2, shim_close, shim_read, shim_write, shim_truncate, shim_sync, shim_size, shim_lock, shim_unlock,
	shim_check_reserved, shim_control, shim_sector_size, shim_characteristics,
	shim_shm_map, shim_shm_lock, shim_shm_barrier, shim_shm_unmap, 0, 0,
};

static int shim_open(df_vfs *v, const char *name, df_file *f, int flags, int *out) {
	(void)v;
	if (name == 0 || !(flags & (open_main_db | open_main_journal | open_wal)))
		return base->open(base, name, f, flags, out); /* a temporary file */
	shim_file *s = (shim_file *)f;
	memset(s, 0, sizeof(*s));
	int rc = base->open(base, name, real(f), flags, out);
	if (real(f)->methods != 0) {
		s->folder = diskfaultOpen((char *)name);
		s->head.methods = &methods;
	}
	return rc;
}

int diskfault_register(int first) {
	base = sqlite3_vfs_find(0);
	if (base == 0 || base->version < 3)
		return 1;
	shim = *base;
	shim.version = 3;
	shim.next = 0;
	shim.name = "postern_diskfault";
	shim.file_size = (int)sizeof(shim_file) + base->file_size;
	shim.open = shim_open;
	return sqlite3_vfs_register(&shim, first);
}
