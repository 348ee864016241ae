// Compressed streams, read in an order that the input says.
//
//     1 byte   how many reads, at most 15
//     3 each   what (a number, bytes of a stride, weights), and two sizes
//     the rest the stream
#include "files/coded_stream.h"
#include "fuzz.h"

using namespace fastmnist;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Source source({data, size});
  struct Read {
    int kind;
    std::uint8_t first;
    std::uint8_t second;
  };
  std::vector<Read> reads(source.byte() % 16);
  for (Read& read : reads) {
    read.kind = source.byte() % 10;
    read.first = source.byte();
    read.second = source.byte();
  }
  auto reader = CodedReader::open(source.rest());
  if (!reader.ok()) return 0;
  for (const Read& read : reads) {
    if (read.kind == 0) {
      (*reader)->number();
    } else if (read.kind < 9) {  // stride 1 to 8; others are refused
      std::vector<std::uint8_t> bytes(std::size_t{read.first});
      const int stride = read.second == 255 ? 9 : read.kind;
      if (!(*reader)->check_room_for_bytes(bytes.size()).ok()) return 0;
      if (!(*reader)->bytes(bytes, stride).ok()) return 0;
    } else {
      const std::int64_t outputs = read.first % 64, inputs = read.second % 64;
      if (!(*reader)->check_room_for_weights(outputs, inputs).ok()) return 0;
      std::vector<std::int8_t> weights(static_cast<std::size_t>(outputs * inputs));
      if (!(*reader)->weights(weights.data(), outputs, inputs).ok()) return 0;
    }
  }
  (void)(*reader)->finish().ok();
  return 0;
}
