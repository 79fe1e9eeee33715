/* base64.h - bytes as text (RFC 4648, 4), for pictures inside SVG files and terminal messages. */
#ifndef quench_base64_h
#define quench_base64_h

#include <stdint.h>

#include "base/buffer.h"

Status base64_add(Buffer *out, const uint8_t *data, size_t bytes);

#endif
