#define DLPR_SPACE avx2
#define DLPR_AVX2 1
#include "j2k/coder.inl"
