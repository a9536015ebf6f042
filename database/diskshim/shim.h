//go:build linux && cgo

/* The public ABI of SQLite as far as the shim needs it, in the shape that
   https://sqlite.org/c3ref/vfs.html and https://sqlite.org/c3ref/io_methods.html give; it has been
   stable since version 3 of both structures. The driver's own header lies in its module's folder,
   where no other package can include it. */
#ifndef POSTERN_DISKSHIM_H
#define POSTERN_DISKSHIM_H

typedef long long shim_int64;
typedef struct shim_file shim_file;
typedef struct shim_vfs shim_vfs;

typedef struct shim_methods {
	int version;
	int (*close)(shim_file *);
	int (*read)(shim_file *, void *, int, shim_int64);
	int (*write)(shim_file *, const void *, int, shim_int64);
	int (*truncate)(shim_file *, shim_int64);
	int (*sync)(shim_file *, int);
	int (*size)(shim_file *, shim_int64 *);
	int (*lock)(shim_file *, int);
	int (*unlock)(shim_file *, int);
	int (*check_reserved)(shim_file *, int *);
	int (*control)(shim_file *, int, void *);
	int (*sector_size)(shim_file *);
	int (*characteristics)(shim_file *);
	int (*shm_map)(shim_file *, int, int, int, void volatile **);
	int (*shm_lock)(shim_file *, int, int, int);
	void (*shm_barrier)(shim_file *);
	int (*shm_unmap)(shim_file *, int);
	int (*fetch)(shim_file *, shim_int64, int, void **);
	int (*unfetch)(shim_file *, shim_int64, void *);
} shim_methods;

struct shim_file {
	const shim_methods *methods;
};

struct shim_vfs {
	int version;
	int file_size;
	int max_path;
	shim_vfs *next;
	const char *name;
	void *data;
	int (*open)(shim_vfs *, const char *, shim_file *, int, int *);
	int (*remove)(shim_vfs *, const char *, int);
	/* The rest is copied from the default one and never called from here. */
	void *rest[14];
};

/* shim_register makes a layer known to SQLite under a name, and with first the one that is used unless another is named; 0 when it worked.
   asks: it is asked before each read, write and sync; tells: it is told of writes, truncations, syncs and removals. */
int shim_register(int layer, const char *name, int first, int asks, int tells);

#endif
