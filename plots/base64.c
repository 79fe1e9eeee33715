/* base64.c - see base64.h. */
#include "base64.h"

Status base64_add(Buffer *out, const uint8_t *data, size_t bytes) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  TRY(buffer_reserve(out, (bytes + 2) / 3 * 4));
  for (size_t i = 0; i < bytes; i += 3) {
    uint32_t left = (uint32_t)(bytes - i), v = (uint32_t)data[i] << 16;
    if (left > 1) v |= (uint32_t)data[i + 1] << 8;
    if (left > 2) v |= data[i + 2];
    char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=', left > 2 ? digits[v & 63] : '='};
    TRY(buffer_add(out, four, 4));
  }
  return OK;
}
