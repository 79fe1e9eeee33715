/* nfc_table.h - the tables of the Unicode character database that NFC needs. */
#ifndef quench_nfc_table_h
#define quench_nfc_table_h

#include <stdint.h>

typedef struct NfcDecomposition {
  uint32_t point, first, second; /* canonical decomposition; second 0: a singleton */
  uint8_t composes;              /* the pair goes back to the point (not excluded from composition) */
} NfcDecomposition;

typedef struct NfcClass {
  uint32_t from, to; /* a range of code points */
  uint8_t class;     /* its canonical combining class, not 0 */
} NfcClass;

extern const NfcDecomposition nfc_decompositions[]; /* by point */
extern const int nfc_decomposition_count;
extern const NfcClass nfc_classes[]; /* by from */
extern const int nfc_class_count;
extern const uint16_t nfc_pairs[]; /* indices of the decompositions that compose, by (first, second) */
extern const int nfc_pair_count;

#endif
