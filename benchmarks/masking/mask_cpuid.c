/* A processor without AVX-512 or AMX, on one that has them.
 *
 * Preloaded (LD_PRELOAD), this library lets CPUID fault in its process (Linux: ARCH_SET_CPUID) and
 * answers the faults: what the processor says, less the features that FASTMNIST_MASK_CPUID leaves
 * out. Libraries decide by CPUID which of their kernels to run, so that each takes those that it
 * would take on such a machine, whatever environment variables it knows. The instructions
 * themselves still work: who asks nobody is not held back.
 *
 * The setting is a thread's, inherited by the threads and the children that it makes, and ends with
 * exec; there LD_PRELOAD sets it again. A process where Linux or the processor refuses writes a
 * line and ends, since its times would be those of another machine.
 *
 * SIGSEGV, by which the fault arrives, stays ours: handlers that others install are kept and called
 * for every other fault, and nobody gets to block the signal.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { kArchSetCpuid = 0x1012 };

typedef int (*sigaction_function)(int, const struct sigaction*, struct sigaction*);
typedef int (*mask_function)(int, const sigset_t*, sigset_t*);

static sigaction_function real_sigaction;
static mask_function real_sigprocmask;
static mask_function real_pthread_sigmask;
static struct sigaction others; /* what the process believes SIGSEGV does; zeros are SIG_DFL */
static int active;
static int without_avx512; /* else only AMX is left out */

static long set_cpuid(long enabled) { return syscall(SYS_arch_prctl, kArchSetCpuid, enabled); }

static void clear(unsigned* value, const int* bits, int count) {
  for (int i = 0; i < count; ++i) *value &= ~(1u << bits[i]);
}

#define CLEAR(value, ...)                                    \
  do {                                                       \
    static const int bits[] = {__VA_ARGS__};                 \
    clear(value, bits, (int)(sizeof bits / sizeof bits[0])); \
  } while (0)

/* Features by leaf, subleaf and register, as Intel's manual numbers them (volume 2A, CPUID). */
static void leave_out(unsigned leaf, unsigned subleaf, unsigned* a, unsigned* b, unsigned* c,
                      unsigned* d) {
  if (leaf == 7 && subleaf == 0) {
    CLEAR(d, 22, 24, 25); /* AMX: bf16, tile, int8 */
    if (without_avx512) {
      CLEAR(b, 16, 17, 21, 26, 27, 28, 30, 31); /* AVX-512: F, DQ, IFMA, PF, ER, CD, BW, VL */
      CLEAR(c, 1, 6, 8, 11, 12, 14);            /* VBMI, VBMI2, GFNI, VNNI, BITALG, VPOPCNTDQ */
      CLEAR(d, 2, 3, 8, 23);                    /* 4VNNIW, 4FMAPS, VP2INTERSECT, FP16 */
    }
  } else if (leaf == 7 && subleaf == 1) {
    CLEAR(a, 21); /* AMX fp16 */
    CLEAR(d, 8);  /* AMX complex */
    if (without_avx512) {
      CLEAR(a, 4, 5, 23);     /* AVX-VNNI, AVX-512 BF16, AVX-IFMA */
      CLEAR(d, 4, 5, 10, 19); /* AVX-VNNI int8, AVX-NE-CONVERT, AVX-VNNI int16, AVX10 */
    }
  } else if (leaf == 0xd && subleaf == 0) {
    CLEAR(a, 17, 18);                      /* the tiles' state */
    if (without_avx512) CLEAR(a, 5, 6, 7); /* mask registers, zmm registers */
  } else if (leaf == 0x1d || leaf == 0x1e || (leaf == 0x24 && without_avx512)) {
    *a = *b = *c = *d = 0; /* tiles in detail; AVX10 in detail */
  }
}

static void answer(greg_t* registers) {
  const unsigned leaf = (unsigned)registers[REG_RAX];
  const unsigned subleaf = (unsigned)registers[REG_RCX];
  unsigned a, b, c, d;
  set_cpuid(1);
  __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(subleaf));
  set_cpuid(0);
  leave_out(leaf, subleaf, &a, &b, &c, &d);
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

/* CPUID's fault is a general protection: the kernel sends it, and names no address. */
static int is_cpuid(const siginfo_t* info, const greg_t* registers) {
  if (info->si_code != SI_KERNEL) return 0;
  const unsigned char* code = (const unsigned char*)registers[REG_RIP];
  return code[0] == 0x0f && code[1] == 0xa2;
}

static void on_fault(int signal, siginfo_t* info, void* context) {
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  if (is_cpuid(info, registers)) {
    answer(registers);
  } else if (others.sa_flags & SA_SIGINFO) {
    others.sa_sigaction(signal, info, context);
  } else if (others.sa_handler != SIG_DFL && others.sa_handler != SIG_IGN) {
    others.sa_handler(signal);
  } else {
    /* The fault comes again, or what kill() sent is sent again, and ends the process. */
    real_sigaction(SIGSEGV, &others, NULL);
    if (info->si_code <= 0) raise(SIGSEGV);
  }
}

static int install(void) {
  struct sigaction ours;
  memset(&ours, 0, sizeof ours);
  ours.sa_sigaction = on_fault;
  /* On the stack for signals, where a thread has one; again while a handler of others runs. */
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
  return real_sigaction(SIGSEGV, &ours, NULL);
}

static void find_real(void) {
  if (real_sigaction != NULL) return;
  real_sigprocmask = (mask_function)dlsym(RTLD_NEXT, "sigprocmask");
  real_pthread_sigmask = (mask_function)dlsym(RTLD_NEXT, "pthread_sigmask");
  real_sigaction = (sigaction_function)dlsym(RTLD_NEXT, "sigaction");
}

int sigaction(int signal, const struct sigaction* wanted, struct sigaction* before) {
  find_real();
  if (signal != SIGSEGV || !active) return real_sigaction(signal, wanted, before);
  const struct sigaction old = others;
  if (wanted != NULL) others = *wanted;
  if (before != NULL) *before = old;
  return 0;
}

sighandler_t signal(int number, sighandler_t handler) {
  struct sigaction wanted, before;
  memset(&wanted, 0, sizeof wanted);
  wanted.sa_handler = handler;
  wanted.sa_flags = SA_RESTART;
  return sigaction(number, &wanted, &before) == 0 ? before.sa_handler : SIG_ERR;
}

/* A blocked fault would end the process. */
static const sigset_t* unblocked(int how, const sigset_t* set, sigset_t* copy) {
  if (!active || set == NULL || how == SIG_UNBLOCK) return set;
  *copy = *set;
  sigdelset(copy, SIGSEGV);
  return copy;
}

int sigprocmask(int how, const sigset_t* set, sigset_t* before) {
  sigset_t copy;
  find_real();
  return real_sigprocmask(how, unblocked(how, set, &copy), before);
}

int pthread_sigmask(int how, const sigset_t* set, sigset_t* before) {
  sigset_t copy;
  find_real();
  return real_pthread_sigmask(how, unblocked(how, set, &copy), before);
}

static void refuse(const char* why) {
  fprintf(stderr, "mask_cpuid: %s\n", why);
  _exit(125);
}

/* Linked with -z initfirst: before the constructors of libraries that ask, and before the C library
 * knows its environment, which is therefore read as glibc hands it to constructors. */
__attribute__((constructor)) static void begin(int count, char** arguments, char** environment) {
  static const char name[] = "FASTMNIST_MASK_CPUID=";
  const char* isa = NULL;
  (void)count;
  (void)arguments;
  for (; *environment != NULL; ++environment)
    if (strncmp(*environment, name, sizeof name - 1) == 0) isa = *environment + sizeof name - 1;
  if (isa == NULL || *isa == '\0') return;
  if (strcmp(isa, "avx2") == 0)
    without_avx512 = 1;
  else if (strcmp(isa, "avx512_vnni") != 0)
    refuse("FASTMNIST_MASK_CPUID: expected avx2 or avx512_vnni");
  find_real();
  if (real_sigaction(SIGSEGV, NULL, &others) != 0 || install() != 0)
    refuse("cannot handle SIGSEGV");
  if (set_cpuid(0) != 0) refuse("this system cannot let CPUID fault (ARCH_SET_CPUID)");
  active = 1;
}
