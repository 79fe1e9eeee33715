/* status.h - the result of every fallible function, and the error record.
 *
 * A core function that can fail returns a Status (or NULL for functions that
 * return a pointer). The message sits in a thread-local record; only a binding
 * turns it into a Lua error. Nothing in core/ prints, exits or jumps.
 *
 *   Status thing_make(int n) {
 *     if (n < 1) return fail(ERR_ARGUMENT, "thing: n must be at least 1, got %d", n);
 *     TRY(other_thing(n));
 *     return OK;
 *   }
 *
 * Messages name the operation, the argument, the shapes, and what to do. */
#ifndef quench_status_h
#define quench_status_h

typedef enum Status {
  OK = 0,
  ERR_ARGUMENT,   /* a value out of range or of the wrong kind */
  ERR_SHAPE,      /* shapes that do not fit */
  ERR_DTYPE,      /* element types that do not fit */
  ERR_MEMORY,     /* no memory */
  ERR_IO,         /* the operating system refused: open, read, write, rename */
  ERR_FORMAT,     /* a file whose content is not what it claims */
  ERR_NUMERIC,    /* NaN, infinity, a factorisation that failed */
  ERR_INTERRUPT,  /* the user asked to stop */
  ERR_UNSUPPORTED /* valid, but not available in this build or for this type */
} Status;

/* Records a message (printf style) and returns code. */
Status fail(Status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts text in front of the recorded message: fail_in("layer %d", i) gives "layer 3: ...". Returns the recorded code. */
Status fail_in(const char *format, ...) __attribute__((format(printf, 1, 2)));

const char *error_message(void); /* the last message of this thread; "" after error_clear */
Status error_code(void);         /* the last code of this thread */
void error_clear(void);

/* Returns from the calling function if the expression fails. */
#define TRY(expression)                   \
  do {                                    \
    Status try_status_ = (expression);    \
    if (try_status_ != OK) return try_status_; \
  } while (0)

#endif
