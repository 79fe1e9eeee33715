/* tty.c - asking the terminal what it is; see terminal.h. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "terminal.h"

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Is there an answer, "\033[?", digits and semicolons, `last`, among what was read? Keys may stand around it. */
static bool answered(const Buffer *b, char last) {
  for (size_t i = 0; i + 3 < b->used; i++) {
    if (memcmp(b->data + i, "\033[?", 3) != 0) continue;
    for (i += 3; i < b->used && memchr("0123456789;", b->data[i], 11);) i++;
    if (i < b->used && b->data[i] == last) return true;
  }
  return false;
}

/* Reads until the answer, the end of time, or more than any terminal says. */
static Status gather(int tty, char last, int milliseconds, Buffer *answer) {
  long long end = now() + milliseconds;
  while (answer->used < 4096) {
    long long left = end - now();
    struct pollfd p = {.fd = tty, .events = POLLIN};
    if (left <= 0 || poll(&p, 1, (int)left) <= 0) return OK;
    char bytes[256];
    ssize_t n = read(tty, bytes, sizeof bytes);
    if (n <= 0) return OK;
    TRY(buffer_add(answer, bytes, (size_t)n));
    if (answered(answer, last)) return OK;
  }
  return OK;
}

Status terminal_ask(const char *question, char last, int milliseconds, Buffer *answer) {
  int tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (tty < 0) return OK;
  struct termios kept, raw;
  Status s = OK;
  if (tcgetattr(tty, &kept) == 0) {
    raw = kept;
    raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
    raw.c_cc[VMIN] = 0, raw.c_cc[VTIME] = 0;
    tcsetattr(tty, TCSANOW, &raw);
    size_t n = strlen(question);
    if (write(tty, question, n) == (ssize_t)n) s = gather(tty, last, milliseconds, answer);
    tcsetattr(tty, TCSANOW, &kept);
  }
  close(tty);
  return s;
}
