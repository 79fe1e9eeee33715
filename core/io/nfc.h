/* nfc.h - Unicode normalization form C (Unicode Standard Annex 15), which the tokenizers of
 * several model families ask for (GPT-NeoX, Qwen). */
#ifndef quench_nfc_h
#define quench_nfc_h

#include "base/buffer.h"

/* Appends the text in form C. Bytes that are not UTF-8 are kept as they are. */
Status nfc(const char *text, size_t bytes, Buffer *out);

#endif
