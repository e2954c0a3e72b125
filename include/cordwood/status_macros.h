// Passing errors on, for functions that return absl::Status or absl::StatusOr<T>.
//
//   absl::Status Copy(const Broker& broker) {
//     CORDWOOD_ASSIGN_OR_RETURN(Topic from, broker.OpenTopic("orders"));
//     CORDWOOD_RETURN_IF_ERROR(from.partition(0).Flush());
//     return absl::OkStatus();
//   }
//
// Not included by cordwood/cordwood.h. The expression is evaluated once, and may have commas in it.
// A declaration may not: write auto in place of std::map<A, B>.
//
// Thread safety: that of the expression.

#ifndef CORDWOOD_STATUS_MACROS_H_
#define CORDWOOD_STATUS_MACROS_H_

#include <utility>

#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns the Status of `expr`, an absl::Status, unless it is OK.
#define CORDWOOD_RETURN_IF_ERROR(expr)                                     \
  do {                                                                     \
    ::absl::Status cordwood_status = (expr);                               \
    if (ABSL_PREDICT_FALSE(!cordwood_status.ok())) return cordwood_status; \
  } while (false)

// CORDWOOD_ASSIGN_OR_RETURN(lhs, expr): returns the Status of `expr`, an absl::StatusOr, unless it
// is OK; else moves its value into lhs, which may be a declaration. Two statements: one to a line,
// and not after an `if` without braces.
#define CORDWOOD_ASSIGN_OR_RETURN(...) \
  CORDWOOD_INTERNAL_ASSIGN(CORDWOOD_INTERNAL_CONCAT(cordwood_result_, __LINE__), __VA_ARGS__)

#define CORDWOOD_INTERNAL_CONCAT_(a, b) a##b
#define CORDWOOD_INTERNAL_CONCAT(a, b) CORDWOOD_INTERNAL_CONCAT_(a, b)
#define CORDWOOD_INTERNAL_ASSIGN(result, lhs, ...)                         \
  auto result = (__VA_ARGS__);                                             \
  if (ABSL_PREDICT_FALSE(!result.ok())) return std::move(result).status(); \
  lhs = *std::move(result)

#endif  // CORDWOOD_STATUS_MACROS_H_
