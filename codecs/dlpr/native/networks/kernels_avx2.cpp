#include <cstddef>
#define DLPR_ISA avx2
#define DLPR_ISA_NAME "avx2"
#include "networks/kernels_impl.hpp"
