// A VFS over SQLite's own: see powertest_linux.go. Of the interface
// (sqlite.org/c3ref/vfs.html, io_methods.html) it declares what it uses; it is
// the same in every version since 3.6. It offers no shared memory, so that a
// database in WAL mode opens with locking_mode EXCLUSIVE only, which a ledger
// does.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef long long sqlite3_int64;
typedef struct sqlite3_file sqlite3_file;
typedef struct sqlite3_vfs sqlite3_vfs;

typedef struct {
  int iVersion;
  int (*xClose)(sqlite3_file *);
  int (*xRead)(sqlite3_file *, void *, int, sqlite3_int64);
  int (*xWrite)(sqlite3_file *, const void *, int, sqlite3_int64);
  int (*xTruncate)(sqlite3_file *, sqlite3_int64);
  int (*xSync)(sqlite3_file *, int);
  int (*xFileSize)(sqlite3_file *, sqlite3_int64 *);
  int (*xLock)(sqlite3_file *, int);
  int (*xUnlock)(sqlite3_file *, int);
  int (*xCheckReservedLock)(sqlite3_file *, int *);
  int (*xFileControl)(sqlite3_file *, int, void *);
  int (*xSectorSize)(sqlite3_file *);
  int (*xDeviceCharacteristics)(sqlite3_file *);
} methods;

struct sqlite3_file { const methods *pMethods; };

struct sqlite3_vfs {
  int iVersion;
  int szOsFile;
  int mxPathname;
  sqlite3_vfs *pNext;
  const char *zName;
  void *pAppData;
  int (*xOpen)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
  int (*xDelete)(sqlite3_vfs *, const char *, int);
  void *rest[14];  // the methods from xAccess to xNextSystemCall, which stay SQLite's
};

// Weak, as they are found only where the package that holds SQLite is linked.
__attribute__((weak)) sqlite3_vfs *sqlite3_vfs_find(const char *);
__attribute__((weak)) int sqlite3_vfs_register(sqlite3_vfs *, int);

enum { OK = 0, IOERR = 10 };

typedef struct {
  sqlite3_file base;
  const char *path;  // SQLite keeps it until the file is closed
  sqlite3_file *real;
} file;

static sqlite3_vfs *own, over;
static char folder[2048];

static sqlite3_file *real(sqlite3_file *f) { return ((file *)f)->real; }

static void image(const char *path, const char *end, char *to, int size) {
  const char *name = strrchr(path, '/');
  snprintf(to, size, "%s/%s%s", folder, name ? name + 1 : path, end);
}

// keep writes a file's image. It appears whole: this process may be killed at
// any moment.
static int keep(file *f) {
  char made[4096], path[4096], block[65536];
  image(f->path, ".new", made, sizeof made);
  image(f->path, "", path, sizeof path);
  sqlite3_int64 size = 0;
  if (f->real->pMethods->xFileSize(f->real, &size) != OK) return IOERR;
  FILE *to = fopen(made, "wb");
  if (!to) return IOERR;
  for (sqlite3_int64 at = 0; at < size;) {
    int n = size - at < (sqlite3_int64)sizeof block ? (int)(size - at) : (int)sizeof block;
    if (f->real->pMethods->xRead(f->real, block, n, at) != OK || fwrite(block, 1, n, to) != (size_t)n) {
      fclose(to);
      return IOERR;
    }
    at += n;
  }
  if (fclose(to) != 0 || rename(made, path) != 0) return IOERR;
  return OK;
}

static int xSync(sqlite3_file *f, int flags) {
  int code = real(f)->pMethods->xSync(real(f), flags);
  return code == OK && ((file *)f)->path ? keep((file *)f) : code;
}

static int xClose(sqlite3_file *f) { return real(f)->pMethods->xClose(real(f)); }
static int xRead(sqlite3_file *f, void *to, int n, sqlite3_int64 at) { return real(f)->pMethods->xRead(real(f), to, n, at); }
static int xWrite(sqlite3_file *f, const void *from, int n, sqlite3_int64 at) { return real(f)->pMethods->xWrite(real(f), from, n, at); }
static int xTruncate(sqlite3_file *f, sqlite3_int64 size) { return real(f)->pMethods->xTruncate(real(f), size); }
static int xFileSize(sqlite3_file *f, sqlite3_int64 *size) { return real(f)->pMethods->xFileSize(real(f), size); }
static int xLock(sqlite3_file *f, int kind) { return real(f)->pMethods->xLock(real(f), kind); }
static int xUnlock(sqlite3_file *f, int kind) { return real(f)->pMethods->xUnlock(real(f), kind); }
static int xCheckReservedLock(sqlite3_file *f, int *held) { return real(f)->pMethods->xCheckReservedLock(real(f), held); }
static int xFileControl(sqlite3_file *f, int what, void *arg) { return real(f)->pMethods->xFileControl(real(f), what, arg); }
static int xSectorSize(sqlite3_file *f) { return real(f)->pMethods->xSectorSize(real(f)); }
static int xDeviceCharacteristics(sqlite3_file *f) { return real(f)->pMethods->xDeviceCharacteristics(real(f)); }

static const methods ours = {1, xClose, xRead, xWrite, xTruncate, xSync, xFileSize, xLock, xUnlock,
                             xCheckReservedLock, xFileControl, xSectorSize, xDeviceCharacteristics};

static int xOpen(sqlite3_vfs *v, const char *path, sqlite3_file *f, int flags, int *out) {
  (void)v;
  file *o = (file *)f;
  o->path = path;
  o->real = (sqlite3_file *)(o + 1);
  o->base.pMethods = 0;
  o->real->pMethods = 0;
  int code = own->xOpen(own, path, o->real, flags, out);
  if (o->real->pMethods) o->base.pMethods = &ours;
  return code;
}

static int xDelete(sqlite3_vfs *v, const char *path, int sync) {
  (void)v;
  char gone[4096];
  int code = own->xDelete(own, path, sync);
  image(path, "", gone, sizeof gone);
  if (code == OK) unlink(gone);
  return code;
}

int powertest_install(const char *images) {
  if (!sqlite3_vfs_find || !(own = sqlite3_vfs_find(0)) || own->iVersion < 3 || strlen(images) >= sizeof folder) return IOERR;
  strcpy(folder, images);
  over = *own;
  over.iVersion = 3;
  over.pNext = 0;
  over.zName = "powertest";
  over.szOsFile = (int)sizeof(file) + own->szOsFile;
  over.xOpen = xOpen;
  over.xDelete = xDelete;
  return sqlite3_vfs_register(&over, 1);
}
