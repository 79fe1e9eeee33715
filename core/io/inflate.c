/* inflate.c - zlib with our allocator under it. */
#include "io/inflate.h"

#include <stdint.h>
#include <zlib.h>

#include "base/mem.h"

enum { STEP = 1 << 16, EITHER_HEADER = 32 + 15 /* windowBits: zlib or gzip, largest window */ };

static voidpf take(voidpf context, uInt count, uInt size) {
  (void)context;
  return mem_calloc(count, size);
}

static void give(voidpf context, voidpf block) {
  (void)context;
  mem_free(block);
}

static Status run(z_stream *z, Buffer *out, const char *name) {
  size_t start = out->used;
  for (int end = Z_OK; end != Z_STREAM_END;) {
    if (out->used - start > INFLATE_LIMIT) return fail(ERR_FORMAT, "%s: more than %d bytes when unpacked", name, INFLATE_LIMIT);
    TRY(buffer_reserve(out, STEP));
    z->next_out = (Bytef *)out->data + out->used;
    z->avail_out = STEP;
    error_clear();
    end = inflate(z, Z_NO_FLUSH);
    out->used += STEP - z->avail_out;
    if (end == Z_MEM_ERROR) return error_code() ? error_code() : fail(ERR_MEMORY, "%s: out of memory", name);
    if (end == Z_BUF_ERROR || (end == Z_OK && z->avail_in == 0 && z->avail_out > 0))
      return fail(ERR_FORMAT, "%s: the compressed data is cut off", name);
    if (end != Z_OK && end != Z_STREAM_END)
      return fail(ERR_FORMAT, "%s: the compressed data is damaged: %s", name, z->msg ? z->msg : "no reason given");
  }
  return OK;
}

Status inflate_all(Buffer *out, const void *data, size_t bytes, const char *name) {
  if (bytes > INFLATE_LIMIT) return fail(ERR_FORMAT, "%s: %zu compressed bytes are too many", name, bytes);
  z_stream z = {.zalloc = take, .zfree = give, .next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)bytes};
  if (inflateInit2(&z, EITHER_HEADER) != Z_OK) return fail(ERR_MEMORY, "%s: out of memory", name);
  Status s = run(&z, out, name);
  inflateEnd(&z);
  return s;
}
