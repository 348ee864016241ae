// The one place where it is decided what system there is to ask; for files that ask it (os.cpp,
// files.cpp), each of which has answers for where there is none.
#pragma once

#if (defined(__linux__) || defined(__APPLE__)) && !defined(FASTMNIST_NO_OS)
#define FASTMNIST_POSIX 1
#if defined(__linux__)
#define FASTMNIST_LINUX 1
#endif
#if !defined(FASTMNIST_NO_THREADS)
#define FASTMNIST_POSIX_THREADS 1
#endif
#endif
