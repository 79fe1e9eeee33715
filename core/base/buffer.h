/* buffer.h - bytes that grow at the end.
 *
 *   Buffer b = {0};
 *   TRY(buffer_print(&b, "%d", 3));
 *   ... b.data, b.used ...
 *   buffer_free(&b);
 * On an error the content stays as it was; the owner frees it either way. */
#ifndef quench_buffer_h
#define quench_buffer_h

#include <stddef.h>

#include "base/status.h"

typedef struct Buffer {
  char *data; /* from mem_alloc; no zero byte behind it unless one was added */
  size_t used, room;
} Buffer;

Status buffer_reserve(Buffer *b, size_t more); /* room for that many bytes beyond used */
Status buffer_add(Buffer *b, const void *data, size_t bytes);
Status buffer_text(Buffer *b, const char *text);
Status buffer_print(Buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_free(Buffer *b);

#endif
