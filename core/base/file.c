/* file.c - see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { BUFFER_BYTES = 1 << 16 };

static Status io_error(const char *verb, const char *path) {
  int reason = errno;
  return fail(ERR_IO, "cannot %s '%s': %s", verb, path, strerror(reason));
}

static void writer_close(FileWriter *w) {
  if (w->descriptor >= 0) close(w->descriptor);
  mem_free(w->path);
  mem_free(w->temporary);
  mem_free(w->buffer);
  *w = (FileWriter){.descriptor = -1};
}

Status file_create(FileWriter *w, const char *path) {
  *w = (FileWriter){.descriptor = -1};
  size_t n = strlen(path) + 32;
  w->path = mem_strdup(path);
  w->temporary = mem_alloc(n);
  w->buffer = mem_alloc(BUFFER_BYTES);
  if (!w->path || !w->temporary || !w->buffer) {
    writer_close(w);
    return error_code();
  }
  snprintf(w->temporary, n, "%s.tmp.%ld", path, (long)getpid());
  w->descriptor = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (w->descriptor < 0) {
    Status s = io_error("create", path);
    writer_close(w);
    return s;
  }
  return OK;
}

static Status write_fully(int descriptor, const char *data, size_t bytes, const char *path) {
  while (bytes) {
    ssize_t n = write(descriptor, data, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return io_error("write", path);
    data += n;
    bytes -= (size_t)n;
  }
  return OK;
}

static Status flush(FileWriter *w) {
  size_t n = w->used;
  w->used = 0;
  return write_fully(w->descriptor, w->buffer, n, w->path);
}

Status file_write(FileWriter *w, const void *data, size_t bytes) {
  w->written += bytes;
  if (w->used + bytes > BUFFER_BYTES) TRY(flush(w));
  if (bytes > BUFFER_BYTES) return write_fully(w->descriptor, data, bytes, w->path);
  memcpy(w->buffer + w->used, data, bytes);
  w->used += bytes;
  return OK;
}

Status file_commit(FileWriter *w) {
  if (flush(w) != OK) return file_abort(w);
  if (fsync(w->descriptor) != 0 || close(w->descriptor) != 0) {
    w->descriptor = -1;
    io_error("write", w->path);
    return file_abort(w);
  }
  w->descriptor = -1;
  if (rename(w->temporary, w->path) != 0) {
    io_error("rename the finished file to", w->path);
    return file_abort(w);
  }
  writer_close(w);
  return OK;
}

Status file_abort(FileWriter *w) {
  if (w->temporary) unlink(w->temporary);
  writer_close(w);
  return error_code();
}

Status file_map(FileMap *m, const char *path) {
  *m = (FileMap){0};
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return io_error("open", path);
  struct stat st;
  Status s = OK;
  if (fstat(descriptor, &st) != 0) s = io_error("read", path);
  else if (S_ISDIR(st.st_mode)) s = fail(ERR_IO, "cannot read '%s': it is a folder", path);
  else if (st.st_size > 0) {
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (p == MAP_FAILED) s = io_error("map", path);
    else *m = (FileMap){.data = p, .bytes = (size_t)st.st_size};
  }
  close(descriptor);
  return s;
}

void file_unmap(FileMap *m) {
  if (m->data) munmap((void *)(uintptr_t)m->data, m->bytes);
  *m = (FileMap){0};
}

Status file_read(const char *path, char **text, size_t *bytes) {
  *text = NULL;
  FILE *f = fopen(path, "rbe");
  if (!f) return io_error("open", path);
  size_t used = 0, room = 1 << 16;
  char *data = mem_alloc(room + 1);
  while (data) {
    size_t n = fread(data + used, 1, room - used, f);
    used += n;
    if (used < room) break;
    char *grown = mem_realloc(data, 2 * room + 1);
    if (!grown) mem_free(data);
    data = grown;
    room *= 2;
  }
  Status s = !data ? error_code() : ferror(f) ? io_error("read", path) : OK;
  fclose(f);
  if (s != OK) {
    mem_free(data);
    return s;
  }
  data[used] = '\0';
  *text = data;
  *bytes = used;
  return OK;
}

Status file_write_all(const char *path, const void *data, size_t bytes) {
  FileWriter w;
  TRY(file_create(&w, path));
  if (file_write(&w, data, bytes) != OK) return file_abort(&w);
  return file_commit(&w);
}

Status file_append(const char *path, const void *data, size_t bytes) {
  int descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0) return io_error("open", path);
  Status s = write_fully(descriptor, data, bytes, path);
  if (close(descriptor) != 0 && s == OK) s = io_error("write", path);
  return s;
}

Status file_make_directories(const char *path) {
  char *copy = mem_strdup(path);
  if (!copy) return error_code();
  Status s = OK;
  for (char *p = copy + 1; s == OK; p++) {
    if (*p != '/' && *p != '\0') continue;
    char kept = *p;
    *p = '\0';
    if (mkdir(copy, 0777) != 0 && errno != EEXIST) s = io_error("make the folder", copy);
    *p = kept;
    if (kept == '\0') break;
  }
  mem_free(copy);
  return s;
}
