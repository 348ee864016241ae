#include "runtime/scratch.h"

namespace fastmnist {

ScratchPool* shared_scratch() {
  static auto* const pool = new ScratchPool;
  return pool;
}

}  // namespace fastmnist
