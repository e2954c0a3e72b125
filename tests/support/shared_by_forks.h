// Memory that processes share which are forked after it was made; it stays when one is killed.
//
//   const SharedByForks<std::atomic<int>> acknowledged;
//   Child child([&](Child&) { ++*acknowledged; });

#ifndef CORDWOOD_TESTS_SUPPORT_SHARED_BY_FORKS_H_
#define CORDWOOD_TESTS_SUPPORT_SHARED_BY_FORKS_H_

#include <sys/mman.h>

#include <new>
#include <stdexcept>

namespace cordwood::testing {

template <class T>
class SharedByForks {
 public:
  SharedByForks() {
    void* const at =
        mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::runtime_error("mmap");
    value_ = new (at) T();
  }
  SharedByForks(const SharedByForks&) = delete;
  SharedByForks& operator=(const SharedByForks&) = delete;
  ~SharedByForks() { munmap(static_cast<void*>(value_), sizeof(T)); }
  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* value_;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_SHARED_BY_FORKS_H_
