/* element.h - the element types of weight files, and their way into ours.
 *
 * Files hold more types than tensors do: F16 and the two 8-bit floats (OCP FP8:
 * E4M3 without infinity, E5M2 as IEEE) become f32, small integers become i32.
 * These functions read plain bytes (little-endian, of any alignment) from a file and
 * write plain arrays; they are the border between disk and tensors, not kernels. */
#ifndef quench_element_h
#define quench_element_h

#include <stdbool.h>
#include <stdint.h>

#include "tensor/tensor.h"

typedef enum Element {
  E_F64, E_F32, E_F16, E_BF16, E_I64, E_U64, E_I32, E_U32, E_I16, E_U16, E_I8, E_U8, E_BOOL, E_F8_E4M3, E_F8_E5M2, E_F8_E8M0,
  E_Q8_0, E_Q4_0, E_Q4_K, E_Q6_K, /* GGUF's blocks of 32 or 256 elements (io/blocks.h) */
  ELEMENT_COUNT
} Element;

const char *element_name(Element e); /* as in safetensors: "BF16" */
size_t element_bytes(Element e);     /* of one block */
int element_block(Element e);        /* elements a block: 1, but for GGUF's blocks */
bool element_parse(const char *name, Element *out); /* safetensors' types only */
/* Bytes that n elements take; false if they do not fill their blocks or the number overflows. */
bool element_size(Element e, int64_t n, uint64_t *bytes);
Element element_of_dtype(DType d);

/* The tensor type for n elements: f64 for F64, f32 for the other reals, i32 for integers
 * that fit, else f64 (exact up to 2^53). */
DType element_dtype(Element e, const uint8_t *data, int64_t n);

/* Converts n elements to f32, f64, i32, or copies where the types agree. Fails where integers do not fit. NaNs lose
 * their payload (element.c says why). */
Status element_decode(Element e, const uint8_t *data, int64_t n, DType to, void *out);

/* How many of the n elements are NaN or infinite. */
int64_t element_nonfinite(Element e, const uint8_t *data, int64_t n);

#endif
