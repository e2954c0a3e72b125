// Tells ThreadSanitizer what the system's absl does.
//
// A package of absl is compiled without the sanitizer, so a lock that is taken inside it orders
// nothing that ThreadSanitizer sees, and every use of an absl::Mutex would be reported as a race.
// The definitions here come before those of the shared library: each calls the next one of the
// same name, and notes the order that it makes. Linked into test programs of the "tsan" preset
// only, and not when absl is fetched, as it is then compiled with the sanitizer too.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/base/config.h"
#include "absl/base/options.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace {

#define CORDWOOD_STRING_OF(x) CORDWOOD_STRING(x)
#define CORDWOOD_STRING(x) #x

// The function that would have been called without this file. `rest` is its mangled name after
// the namespaces, as a version of absl has a namespace of its own inside absl.
template <typename Function>
Function* Next(const char* rest) {
  std::string name = "_ZN4absl";
  if (ABSL_OPTION_USE_INLINE_NAMESPACE != 0) {
    const std::string inner = CORDWOOD_STRING_OF(ABSL_OPTION_INLINE_NAMESPACE_NAME);
    name += std::to_string(inner.size()) + inner;
  }
  name += rest;
  void* const found = dlsym(RTLD_NEXT, name.c_str());
  if (found == nullptr) {
    std::fprintf(stderr, "tests/tsan/absl_sync.cc: absl has no %s\n", name.c_str());
    std::abort();
  }
  return reinterpret_cast<Function*>(found);
}

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

#define CORDWOOD_NEXT(type, rest) static auto* const next = Next<type>(rest)

void Mutex::Lock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  CORDWOOD_NEXT(void(Mutex*), "5Mutex4LockEv");
  next(this);
  __tsan_acquire(this);
}

void Mutex::Unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  CORDWOOD_NEXT(void(Mutex*), "5Mutex6UnlockEv");
  __tsan_release(this);
  next(this);
}

bool Mutex::TryLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  CORDWOOD_NEXT(bool(Mutex*), "5Mutex7TryLockEv");
  const bool locked = next(this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::ReaderLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  CORDWOOD_NEXT(void(Mutex*), "5Mutex10ReaderLockEv");
  next(this);
  __tsan_acquire(this);
}

void Mutex::ReaderUnlock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  CORDWOOD_NEXT(void(Mutex*), "5Mutex12ReaderUnlockEv");
  __tsan_release(this);
  next(this);
}

bool Mutex::ReaderTryLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  CORDWOOD_NEXT(bool(Mutex*), "5Mutex13ReaderTryLockEv");
  const bool locked = next(this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::Await(const Condition& condition) {
  CORDWOOD_NEXT(void(Mutex*, const Condition&), "5Mutex5AwaitERKNS0_9ConditionE");
  __tsan_release(this);
  next(this, condition);
  __tsan_acquire(this);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  CORDWOOD_NEXT(bool(Mutex*, const Condition&, Duration),
                "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  __tsan_release(this);
  const bool met = next(this, condition, timeout);
  __tsan_acquire(this);
  return met;
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  CORDWOOD_NEXT(bool(Mutex*, const Condition&, Time),
                "5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  __tsan_release(this);
  const bool met = next(this, condition, deadline);
  __tsan_acquire(this);
  return met;
}

void CondVar::Wait(Mutex* mutex) {
  CORDWOOD_NEXT(void(CondVar*, Mutex*), "7CondVar4WaitEPNS0_5MutexE");
  __tsan_release(mutex);
  next(this, mutex);
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  CORDWOOD_NEXT(bool(CondVar*, Mutex*, Duration),
                "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  __tsan_release(mutex);
  const bool timed_out = next(this, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  CORDWOOD_NEXT(bool(CondVar*, Mutex*, Time), "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  __tsan_release(mutex);
  const bool timed_out = next(this, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

#if ABSL_LTS_RELEASE_VERSION <= 20220623
// The count of the owners of a Status falls inside the library: whoever is the last frees what all
// others have used. Newer releases have another name for it, and need their own few lines here.
void Status::UnrefNonInlined(std::uintptr_t rep) {
  CORDWOOD_NEXT(void(std::uintptr_t), "6Status15UnrefNonInlinedEm");
  __tsan_release(reinterpret_cast<void*>(rep));
  __tsan_acquire(reinterpret_cast<void*>(rep));
  next(rep);
}
#endif

ABSL_NAMESPACE_END
}  // namespace absl

// absl's deadlock detector keeps a graph of all mutexes under a lock of its own, in a library that
// is compiled without ThreadSanitizer; its copies of that graph's memory were taken for races. So
// is librdkafka (tests/kafka), whose atomic counters say when a message may be freed.
extern "C" const char* __tsan_default_suppressions() {
  return "race:synchronization_internal::GraphCycles\nrace:librdkafka\n";
}
