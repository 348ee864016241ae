// Classes of MNIST's test images, one a line: classify FILE MODEL t10k-images-idx3-ubyte
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

#include "fastmnist/model.hpp"

int main(int argc, char** argv) try {
  if (argc != 4) throw std::runtime_error("usage: classify FILE MODEL IMAGES");
  const fastmnist::Model model(argv[1], argv[2]);
  std::ifstream file(argv[3], std::ios::binary);
  const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
  if (bytes.size() < 16 || bytes[0] != 0 || bytes[2] != 8)
    throw std::runtime_error("IMAGES: expected an IDX file of pixels, not zipped");
  const std::size_t rows = (bytes.size() - 16) / model.input_size();
  const auto* pixels = reinterpret_cast<const std::uint8_t*>(bytes.data()) + 16;
  for (const std::int64_t digit : model.classify(pixels, rows)) std::printf("%d\n", int(digit));
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
