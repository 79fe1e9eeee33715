/* file.h - files: read whole or mapped, written under a temporary name and renamed.
 *
 *   FileWriter w;
 *   TRY(file_create(&w, "out/model.safetensors"));
 *   if (file_write(&w, data, n) || file_commit(&w)) return file_abort(&w);
 *
 * A reader never sees half a file: the old one stays until the commit. Every
 * error names the path and the reason of the system. */
#ifndef quench_file_h
#define quench_file_h

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct FileWriter {
  int descriptor;
  char *path, *temporary;
  char *buffer;      /* small writes are gathered */
  size_t used;
  uint64_t written;  /* bytes so far, buffered ones included */
} FileWriter;

Status file_create(FileWriter *w, const char *path);
Status file_write(FileWriter *w, const void *data, size_t bytes);
Status file_commit(FileWriter *w);  /* flush, fsync, rename; the writer is closed either way */
Status file_abort(FileWriter *w);   /* removes the temporary; returns the recorded error's code */

typedef struct FileMap {
  const uint8_t *data;
  size_t bytes;
} FileMap;

Status file_map(FileMap *m, const char *path); /* read-only, private; an empty file gives bytes = 0 */
void file_unmap(FileMap *m);

/* The whole file in memory from mem_alloc, with a zero byte behind it. */
Status file_read(const char *path, char **text, size_t *bytes);
/* Writes the whole file atomically. */
Status file_write_all(const char *path, const void *data, size_t bytes);
/* Appends and flushes one line; for logs, where a kill may cost the last line only. */
Status file_append(const char *path, const void *data, size_t bytes);
Status file_make_directories(const char *path);

#endif
