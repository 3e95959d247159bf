//! A table whose places are used again: what holds a [`Slot`] of a former owner finds nothing.

use super::poll::Slot;

/// Values by slot.
pub(crate) struct Table<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    generation: u32,
}

struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            generation: 0,
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Slot {
        // Counted over the whole table, so that it may shrink and grow again.
        self.generation = self.generation.wrapping_add(1) & Slot::GENERATIONS;
        let generation = self.generation;
        let place = Place {
            generation,
            value: Some(value),
        };
        if let Some(index) = self.free.pop() {
            self.places[index as usize] = place;
            return Slot { index, generation };
        }
        let index = u32::try_from(self.places.len()).expect("open files run out long before");
        self.places.push(place);
        Slot { index, generation }
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        let place = self.places.get(slot.index as usize)?;
        if place.generation == slot.generation {
            place.value.as_ref()
        } else {
            None
        }
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let place = self.places.get_mut(slot.index as usize)?;
        if place.generation == slot.generation {
            place.value.as_mut()
        } else {
            None
        }
    }

    /// Takes a value out for good; the place is free.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let place = self.places.get_mut(slot.index as usize)?;
        if place.generation != slot.generation {
            return None;
        }
        let value = place.value.take()?;
        self.free.push(slot.index);
        self.give_back();
        Some(value)
    }

    /// Takes a value out to work on it; its place is kept until it is [put back](Self::put_back).
    pub(crate) fn remove_for_now(&mut self, slot: Slot) -> Option<T> {
        let place = self.places.get_mut(slot.index as usize)?;
        if place.generation == slot.generation {
            place.value.take()
        } else {
            None
        }
    }

    /// Puts back what was taken out.
    pub(crate) fn put_back(&mut self, slot: Slot, value: T) {
        if let Some(place) = self.places.get_mut(slot.index as usize)
            && place.generation == slot.generation
        {
            place.value = Some(value);
        }
    }

    /// A burst of connections leaves no large empty table behind.
    fn give_back(&mut self) {
        if self.places.len() > 1024 && self.free.len() == self.places.len() {
            self.places.truncate(1024);
            self.places.shrink_to_fit();
            self.free = (0..1024).collect();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let slot = Slot {
                index: u32::try_from(index).ok()?,
                generation: place.generation,
            };
            Some((slot, place.value.as_ref()?))
        })
    }

    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.iter().map(|(slot, _)| slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_a_former_owner_finds_nothing() {
        let mut table = Table::new();
        let first = table.insert("a");
        assert_eq!(table.remove(first), Some("a"));
        let second = table.insert("b");
        assert_eq!(first.index, second.index);
        assert_eq!((table.get(first), table.get(second)), (None, Some(&"b")));
        assert_eq!(table.remove(first), None);
        assert_eq!(table.len(), 1);
    }
}
