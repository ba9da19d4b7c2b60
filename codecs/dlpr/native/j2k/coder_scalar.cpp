#define DLPR_SPACE scalar
#define DLPR_AVX2 0
#include "j2k/coder.inl"
