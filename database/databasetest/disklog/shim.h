//go:build linux && cgo

/* The public ABI of SQLite as far as the shim needs it, in the shape that
   https://sqlite.org/c3ref/vfs.html and https://sqlite.org/c3ref/io_methods.html give; it has been
   stable since version 3 of both structures. The driver's own header lies in its module's folder,
   where no other package can include it. */
#ifndef POSTERN_DISKLOG_SHIM_H
#define POSTERN_DISKLOG_SHIM_H

typedef long long disklog_int64;
typedef struct disklog_file disklog_file;
typedef struct disklog_vfs disklog_vfs;

typedef struct disklog_methods {
	int version;
	int (*close)(disklog_file *);
	int (*read)(disklog_file *, void *, int, disklog_int64);
	int (*write)(disklog_file *, const void *, int, disklog_int64);
	int (*truncate)(disklog_file *, disklog_int64);
	int (*sync)(disklog_file *, int);
	int (*size)(disklog_file *, disklog_int64 *);
	int (*lock)(disklog_file *, int);
	int (*unlock)(disklog_file *, int);
	int (*check_reserved)(disklog_file *, int *);
	int (*control)(disklog_file *, int, void *);
	int (*sector_size)(disklog_file *);
	int (*characteristics)(disklog_file *);
	int (*shm_map)(disklog_file *, int, int, int, void volatile **);
	int (*shm_lock)(disklog_file *, int, int, int);
	void (*shm_barrier)(disklog_file *);
	int (*shm_unmap)(disklog_file *, int);
	int (*fetch)(disklog_file *, disklog_int64, int, void **);
	int (*unfetch)(disklog_file *, disklog_int64, void *);
} disklog_methods;

struct disklog_file {
	const disklog_methods *methods;
};

struct disklog_vfs {
	int version;
	int file_size;
	int max_path;
	disklog_vfs *next;
	const char *name;
	void *data;
	int (*open)(disklog_vfs *, const char *, disklog_file *, int, int *);
	int (*remove)(disklog_vfs *, const char *, int);
	/* The rest is copied from the default one and never called from here. */
	void *rest[14];
};

/* disklog_register makes the shim known to SQLite under a name; 0 when it worked. */
int disklog_register(void);

#endif
