// Marks what libfastmnist shows to its clients; everything else stays hidden.
#pragma once

#define FASTMNIST_API __attribute__((visibility("default")))
