#include "os/errno_status.h"

#include <errno.h>
#include <string.h>

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "cordwood/os/storage.h"

namespace cordwood::os {
namespace {

struct Meaning {
  absl::StatusCode code;
  const char* advice;
};

Meaning MeaningOf(int error) {
  switch (error) {
    case ENOENT:
      return {absl::StatusCode::kNotFound, ""};
    case EEXIST:
    case ENOTEMPTY:
      return {absl::StatusCode::kAlreadyExists, ""};
    case EACCES:
    case EPERM:
      return {absl::StatusCode::kPermissionDenied, ": check its owner and mode"};
    case EROFS:
      return {absl::StatusCode::kPermissionDenied, ": the file system is mounted read-only"};
    case ENOSPC:
      return {absl::StatusCode::kResourceExhausted, ": the disk is full"};
    case EDQUOT:
      return {absl::StatusCode::kResourceExhausted, ": the disk quota is used up"};
    case EFBIG:
      return {absl::StatusCode::kResourceExhausted, ": past the limit of a file's size"};
    case EMFILE:
    case ENFILE:
      return {absl::StatusCode::kResourceExhausted, ": too many open files"};
    case ENOMEM:
      return {absl::StatusCode::kResourceExhausted, ": no memory, or too many maps"};
    case ENOTDIR:
      return {absl::StatusCode::kFailedPrecondition, ": a part of the path is not a folder"};
    case EISDIR:
      return {absl::StatusCode::kFailedPrecondition, ": it is a folder"};
    case ELOOP:
      return {absl::StatusCode::kFailedPrecondition, ": a symbolic link is not followed"};
    case EXDEV:
      return {absl::StatusCode::kFailedPrecondition, ": it leads out of the directory"};
    case ENXIO:
      return {absl::StatusCode::kFailedPrecondition, ": it is not a plain file"};
    case ENAMETOOLONG:
      return {absl::StatusCode::kInvalidArgument, ": the name is too long"};
    case EOPNOTSUPP:
      return {absl::StatusCode::kFailedPrecondition, ": the file system cannot do this"};
    default:
      return {absl::StatusCode::kUnavailable, ""};
  }
}

// What Linux says of a block that cannot be read (block/blk-core.c), and file systems of one whose
// checksum does not hold.
bool IsOfTheDisk(int error) {
  return error == EIO || error == ENODATA || error == EILSEQ || error == EREMOTEIO ||
         error == EBADMSG || error == EUCLEAN;
}

}  // namespace

absl::Status ErrnoStatus(int error, std::string_view operation, std::string_view path) {
  const Meaning meaning = MeaningOf(error);
  const char* name = strerrorname_np(error);
  absl::Status status(
      meaning.code,
      absl::StrCat(absl::string_view(operation.data(), operation.size()), " ",
                   absl::string_view(path.data(), path.size()), ": ",
                   name == nullptr ? "errno " : name, name == nullptr ? std::to_string(error) : "",
                   " (", strerrordesc_np(error), ")", meaning.advice));
  if (error == ENOSPC || error == EDQUOT) status.SetPayload(kReasonUrl, absl::Cord(kDiskFull));
  if (IsOfTheDisk(error)) status.SetPayload(kReasonUrl, absl::Cord(kUnreadable));
  return status;
}

bool IsUnreadable(const absl::Status& status) {
  const auto payload = status.GetPayload(kReasonUrl);
  return payload && *payload == kUnreadable;
}

}  // namespace cordwood::os
