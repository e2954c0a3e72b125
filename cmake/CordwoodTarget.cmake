# Warnings and sanitizers of cordwood's own targets. Nothing here reaches a consumer, but the link
# option of a sanitizer, without which what was built with it does not link.
function(cordwood_configure target)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wold-style-cast
    $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wthread-safety>
    $<$<BOOL:${CORDWOOD_WERROR}>:-Werror>
    # MutexLock(&mu) is the only form Debian's absl has; the newest deprecates it.
    -Wno-error=deprecated-declarations)
  if(CORDWOOD_SANITIZE)
    list(JOIN CORDWOOD_SANITIZE "," list)
    target_compile_options(${target} PRIVATE
      -fsanitize=${list} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${list})
  endif()
endfunction()
