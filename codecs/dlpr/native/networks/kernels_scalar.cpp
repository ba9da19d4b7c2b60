#include <cstddef>
#define DLPR_ISA scalar
#define DLPR_ISA_NAME "scalar"
#include "networks/kernels_impl.hpp"
