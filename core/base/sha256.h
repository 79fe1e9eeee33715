/* sha256.h - SHA-256 (FIPS 180-4): pins downloaded files, names finished work.
 *
 *   char hex[65];
 *   sha256_hex("abc", 3, hex);   // "ba7816bf..." */
#ifndef quench_sha256_h
#define quench_sha256_h

#include <stddef.h>
#include <stdint.h>

typedef struct Sha256 {
  uint32_t state[8];
  uint64_t bytes;
  uint8_t block[64];
} Sha256;

void sha256_begin(Sha256 *h);
void sha256_add(Sha256 *h, const void *data, size_t bytes);
void sha256_end(Sha256 *h, uint8_t digest[32]);

void sha256_hex(const void *data, size_t bytes, char hex[65]); /* lower case, zero-terminated */

#endif
