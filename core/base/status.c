/* status.c - the thread-local error record. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048 };

static _Thread_local char message[MESSAGE_BYTES];
static _Thread_local Status code;

Status fail(Status new_code, const char *format, ...) {
  char text[MESSAGE_BYTES]; /* the arguments may point into the old message */
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  memcpy(message, text, sizeof message);
  return code = new_code;
}

Status fail_in(const char *format, ...) {
  char prefix[256], text[MESSAGE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(prefix, sizeof prefix, format, arguments);
  va_end(arguments);
  /* 300 bytes are kept for the prefix; a longer message loses its end */
  snprintf(text, sizeof text, "%s: %.*s", prefix, MESSAGE_BYTES - 300, message);
  memcpy(message, text, sizeof message);
  return code;
}

const char *error_message(void) { return message; }

Status error_code(void) { return code; }

void error_clear(void) {
  message[0] = '\0';
  code = OK;
}
