// Marks what libfastmnist shows to its clients; everything else stays hidden. A static library
// shows nothing of its own: what a program makes of it is the program's to say.
#pragma once

#if defined(FASTMNIST_STATIC)
#define FASTMNIST_API
#else
#define FASTMNIST_API __attribute__((visibility("default")))
#endif
