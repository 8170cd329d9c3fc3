//! Seeds for executions, drawn from the system in blocks: a system call for each would cost more
//! than the execution's bookkeeping.

#[derive(Debug)]
pub(super) struct Seeds {
    block: [u8; 4096],
    used: usize,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { block: [0; 4096], used: 4096 }
    }
}

impl Seeds {
    pub(super) fn next(&mut self) -> [u8; 16] {
        if self.used == self.block.len() {
            getrandom::fill(&mut self.block).expect("the system has randomness");
            self.used = 0;
        }
        let mut seed = [0; 16];
        seed.copy_from_slice(&self.block[self.used..self.used + 16]);
        self.block[self.used..self.used + 16].fill(0);
        self.used += 16;
        seed
    }
}
