#define DLPR_SPACE scalar
#define DLPR_AVX2 0
#include "jpeg/coder.inl"
