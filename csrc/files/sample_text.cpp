#include "files/byte_model.h"

namespace fastmnist {

const std::string_view kSampleText = "{}";

}  // namespace fastmnist
