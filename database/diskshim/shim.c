//go:build linux && cgo

#include "shim.h"
#include "_cgo_export.h"
#include <string.h>

/* In the SQLite that the driver brings; the final link finds them. */
extern shim_vfs *sqlite3_vfs_find(const char *);
extern int sqlite3_vfs_register(shim_vfs *, int);

enum {
	result_ok = 0,
	open_main_db = 0x100,
	open_main_journal = 0x800,
	open_wal = 0x80000,
	op_write = 0, /* as Op in diskshim.go */
	op_sync = 1,
	op_read = 2,
	most_layers = 4,
};

typedef struct layer {
	shim_vfs vfs;
	int asks, tells;
} layer;

static layer layers[most_layers];
static shim_vfs *base;

/* One open file: the head that SQLite sees, its layer and the number that that gave it, and the real file behind. */
typedef struct open_file {
	shim_file head;
	int layer;
	shim_int64 number;
} open_file;

static shim_file *real(shim_file *f) { return (shim_file *)((open_file *)f + 1); }
static shim_int64 number(shim_file *f) { return ((open_file *)f)->number; }
static layer *of(shim_file *f) { return &layers[((open_file *)f)->layer]; }
static int ask(shim_file *f, int op) {
	return of(f)->asks ? diskshimAsk(((open_file *)f)->layer, number(f), op) : result_ok;
}

static int pass_close(shim_file *f) { return real(f)->methods->close(real(f)); }

static int pass_read(shim_file *f, void *to, int n, shim_int64 at) {
	int rc = ask(f, op_read);
	return rc ? rc : real(f)->methods->read(real(f), to, n, at);
}

/* Half of it is there when a write fails, as on a disk that fills up. */
static int pass_write(shim_file *f, const void *from, int n, shim_int64 at) {
	int rc = ask(f, op_write);
	if (rc == result_ok)
		rc = real(f)->methods->write(real(f), from, n, at);
	else if (n > 1)
		(void)real(f)->methods->write(real(f), from, n / 2, at);
	if (of(f)->tells)
		diskshimWrote(((open_file *)f)->layer, number(f), (void *)from, n, at, rc);
	return rc;
}

static int pass_truncate(shim_file *f, shim_int64 size) {
	int rc = real(f)->methods->truncate(real(f), size);
	if (of(f)->tells)
		diskshimTruncated(((open_file *)f)->layer, number(f), size, rc);
	return rc;
}

static int pass_sync(shim_file *f, int flags) {
	int rc = ask(f, op_sync);
	if (rc)
		return rc;
	if (!of(f)->tells)
		return real(f)->methods->sync(real(f), flags);
	shim_int64 begun = diskshimSyncBegins(((open_file *)f)->layer, number(f));
	rc = real(f)->methods->sync(real(f), flags);
	diskshimSynced(((open_file *)f)->layer, number(f), begun, rc);
	return rc;
}

static int pass_size(shim_file *f, shim_int64 *n) { return real(f)->methods->size(real(f), n); }
static int pass_lock(shim_file *f, int l) { return real(f)->methods->lock(real(f), l); }
static int pass_unlock(shim_file *f, int l) { return real(f)->methods->unlock(real(f), l); }
static int pass_check_reserved(shim_file *f, int *out) { return real(f)->methods->check_reserved(real(f), out); }
static int pass_control(shim_file *f, int op, void *arg) { return real(f)->methods->control(real(f), op, arg); }
static int pass_sector_size(shim_file *f) { return real(f)->methods->sector_size(real(f)); }
static int pass_characteristics(shim_file *f) { return real(f)->methods->characteristics(real(f)); }
static int pass_shm_map(shim_file *f, int page, int size, int extend, void volatile **out) {
	return real(f)->methods->shm_map(real(f), page, size, extend, out);
}
static int pass_shm_lock(shim_file *f, int at, int n, int flags) { return real(f)->methods->shm_lock(real(f), at, n, flags); }
static void pass_shm_barrier(shim_file *f) { real(f)->methods->shm_barrier(real(f)); }
static int pass_shm_unmap(shim_file *f, int remove) { return real(f)->methods->shm_unmap(real(f), remove); }

/* Version 2: without the calls that map the file, so that every byte goes through read and write. */
static const shim_methods methods = {
	2, pass_close, pass_read, pass_write, pass_truncate, pass_sync, pass_size, pass_lock, pass_unlock,
	pass_check_reserved, pass_control, pass_sector_size, pass_characteristics,
	pass_shm_map, pass_shm_lock, pass_shm_barrier, pass_shm_unmap, 0, 0,
};

static int pass_open(shim_vfs *v, const char *name, shim_file *f, int flags, int *out) {
	if (name == 0 || !(flags & (open_main_db | open_main_journal | open_wal)))
		return base->open(base, name, f, flags, out); /* a temporary file: it matters to nobody after a cut */
	open_file *s = (open_file *)f;
	memset(s, 0, sizeof(*s));
	int rc = base->open(base, name, real(f), flags, out);
	if (real(f)->methods != 0) {
		s->layer = (int)((layer *)v - layers); /* the vfs is what a layer begins with */
		s->number = diskshimOpened(s->layer, (char *)name);
		s->head.methods = &methods;
	}
	return rc;
}

static int pass_remove(shim_vfs *v, const char *name, int sync_folder) {
	int rc = base->remove(base, name, sync_folder);
	if (((layer *)v)->tells)
		diskshimRemoved((int)((layer *)v - layers), (char *)name, sync_folder, rc);
	return rc;
}

int shim_register(int number, const char *name, int first, int asks, int tells) {
	if (base == 0)
		base = sqlite3_vfs_find("unix"); /* not another layer, which may be the first by now */
	if (base == 0 || base->version < 3 || number >= most_layers)
		return 1;
	layer *l = &layers[number];
	l->vfs = *base;
	l->vfs.version = 3;
	l->vfs.next = 0;
	l->vfs.name = name;
	l->vfs.file_size = (int)sizeof(open_file) + base->file_size;
	l->vfs.open = pass_open;
	l->vfs.remove = pass_remove;
	l->asks = asks;
	l->tells = tells;
	return sqlite3_vfs_register(&l->vfs, first);
}
