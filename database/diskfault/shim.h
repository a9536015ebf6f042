//go:build linux && cgo

/* The public ABI of SQLite as far as the shim needs it, in the shape that
   https://sqlite.org/c3ref/vfs.html and https://sqlite.org/c3ref/io_methods.html give; it has been
   stable since version 3 of both structures. The driver's own header lies in its module's folder,
   where no other package can include it. */
#ifndef POSTERN_DISKFAULT_SHIM_H
#define POSTERN_DISKFAULT_SHIM_H

typedef long long df_int64;
typedef struct df_file df_file;
typedef struct df_vfs df_vfs;

typedef struct df_methods {
	int version;
	int (*close)(df_file *);
	int (*read)(df_file *, void *, int, df_int64);
	int (*write)(df_file *, const void *, int, df_int64);
	int (*truncate)(df_file *, df_int64);
	int (*sync)(df_file *, int);
	int (*size)(df_file *, df_int64 *);
	int (*lock)(df_file *, int);
	int (*unlock)(df_file *, int);
	int (*check_reserved)(df_file *, int *);
	int (*control)(df_file *, int, void *);
	int (*sector_size)(df_file *);
	int (*characteristics)(df_file *);
	int (*shm_map)(df_file *, int, int, int, void volatile **);
	int (*shm_lock)(df_file *, int, int, int);
	void (*shm_barrier)(df_file *);
	int (*shm_unmap)(df_file *, int);
	int (*fetch)(df_file *, df_int64, int, void **);
	int (*unfetch)(df_file *, df_int64, void *);
} df_methods;

struct df_file {
	const df_methods *methods;
};

struct df_vfs {
	int version;
	int file_size;
	int max_path;
	df_vfs *next;
	const char *name;
	void *data;
	int (*open)(df_vfs *, const char *, df_file *, int, int *);
	int (*remove)(df_vfs *, const char *, int);
	/* The rest is copied from the default one and never called from here. */
	void *rest[14];
};

/* diskfault_register makes the shim known to SQLite under a name, and with first the one that is used unless another is
   named; 0 when it worked. */
int diskfault_register(int first);

#endif
